// Likelier than usual? A step towards firing on the entropy curve, from where a unit usually is and from where it is now.
import { announcer, draw, ground, make, share, slider, within } from "./kit.js";

const STYLE = `
.likelier { align-items: start; display: grid; gap: .4rem 1.6rem; grid-template-columns: minmax(0, 1.7fr) minmax(0, 1fr); }
.likelier svg { cursor: crosshair; touch-action: pan-y; } .likelier text { fill: currentColor; font-size: 12px; }
.likelier .soft { opacity: .6; } .likelier .handle { fill: currentColor; stroke: var(--lively-paper); stroke-width: 2; }
.likelier .end { fill: var(--lively-paper); stroke: currentColor; stroke-width: 1.5; } .likelier .end.on { fill: currentColor; }
.likelier .step { fill: currentColor; fill-opacity: .1; stroke: currentColor; stroke-width: 1.4; }
.likelier table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; grid-column: 1 / -1; margin: .3rem 0 0; max-width: 34rem; width: 100%; }
.likelier :is(td, th) { border: 0; border-top: 1px solid var(--lively-rule); font-weight: 400; padding: .2rem .5rem; text-align: right; }
.likelier th:first-child { text-align: left; } .likelier thead :is(td, th) { border-top: 0; } .likelier tr { background: none; }
.likelier .won { background: var(--lively-faint); font-weight: 600; } .likelier-verdict { font-weight: 600; margin: 0 0 .6rem; min-height: 1.4em; }
@media (max-width: 640px) { .likelier { grid-template-columns: minmax(0, 1fr); } .likelier .square { margin: auto; max-width: 260px; width: 100%; } .likelier-verdict { min-height: 4.2em; } }`;

const traits = {
  "moves": { "q": "probability of firing now, 0 to 1", "t": "usual frequency, 0 to 1", "epsilon": "step size, 0.02 to 0.98" },
  "computes": { "scores": "information if silent and if firing, nats", "fires": "whether the unit fires" }
};

const FINE = 48; // squares along a side of the map
const h = (p) => (p > 0 && p < 1 ? -p * Math.log(p) - (1 - p) * Math.log(1 - p) : 0);
const stepped = (r, y, epsilon) => (1 - epsilon) * r + epsilon * y;

/** Information of a unit after a step towards y, for y = 0 and 1: the definition. */
const scores = (q, t, epsilon) => [0, 1].map((y) => h(stepped(t, y, epsilon)) - h(stepped(q, y, epsilon)));

function render({ model, el }) {
  const state = { q: model.get("q"), t: model.get("t"), epsilon: model.get("epsilon") }, tried = new Set();
  ground(el, model);
  const say = announcer(el);
  const moves = { q: within(0, 1), t: within(0, 1), epsilon: within(0.02, 0.98) };
  const publish = share(el, model, traits, Object.fromEntries(Object.entries(moves).map(([key, may]) => [key, [may, () => state[key], (x) => change({ [key]: x })]])));

  // what the hand does
  const percent = (x) => x.toFixed(2), inside = (x) => Math.round(100 * Math.min(1, Math.max(0, x))) / 100;
  const control = (name, key, range) => slider(name, { ...range, value: state[key], show: percent }, (x) => change({ [key]: x }));
  const controls = { t: control("usually t", "t"), q: control("now q", "q"), epsilon: control("step ε", "epsilon", { min: 0.02, max: 0.98 }) };
  const held = (svg, at) => {
    let hand = null;
    const place = (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      return at(point.x, point.y, hand);
    };
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      hand = null;
      hand = place(event);
      event.preventDefault();
    });
    svg.addEventListener("pointermove", (event) => hand && place(event));
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => (hand = null));
  };

  // the curve, with a step from t and one from q
  const [W, H, LEFT, TOP] = [400, 236, 30, 18], x = (r) => LEFT + r * (W - LEFT - 10), y = (v) => TOP + (1 - v / 0.72) * (H - TOP - 34);
  const curve = Array.from({ length: 201 }, (_, k) => `${k ? "L" : "M"}${x(k / 200).toFixed(1)} ${y(h(k / 200)).toFixed(1)}`).join("");
  const side = (name, letter, aside) => {
    const step = draw("path", { class: "step" }), ends = [draw("circle", { r: 4, class: "end" }), draw("circle", { r: 4, class: "end on" })];
    const handle = draw("circle", { r: 7, class: "handle" }), letterAt = draw("text", { "text-anchor": "middle", "font-weight": 700 }, letter);
    const node = draw("g", { class: name }, step, ...ends, handle, letterAt);
    const update = (r, epsilon) => {
      const [a, b] = [0, 1].map((bit) => stepped(r, bit, epsilon)), at = (u) => `${x(u).toFixed(1)} ${y(h(u)).toFixed(1)}`;
      step.setAttribute("d", `M${at(a)}H${x(b).toFixed(1)}L${at(b)}z`);
      [a, b].forEach((u, i) => (ends[i].setAttribute("cx", x(u)), ends[i].setAttribute("cy", y(h(u)))));
      handle.setAttribute("cx", x(r));
      handle.setAttribute("cy", y(h(r)));
      letterAt.setAttribute("x", x(r) + aside);
      letterAt.setAttribute("y", y(h(r)) - 9);
    };
    return { node, update };
  };
  const usual = side("data", "t", -9), now = side("recognition", "q", 9);
  const hill = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "the entropy curve, with a step of width ε from t and one from q" },
    draw("path", { d: `M${x(0)} ${y(0.7)}V${y(0)}H${x(1)}`, fill: "none", stroke: "var(--lively-rule)" }),
    draw("path", { d: curve, fill: "none", stroke: "currentColor", "stroke-width": 1.6, opacity: 0.7 }),
    ...[0, 0.5, 1].map((r) => draw("text", { x: x(r), y: H - 19, "text-anchor": "middle", class: "soft" }, r)),
    draw("text", { x: x(0.5), y: H - 4, "text-anchor": "middle", class: "soft" }, "probability of firing"),
    draw("text", { x: 2, y: 10, class: "soft" }, "h, nats"), draw("text", { x: 2, y: y(0.6) + 4, class: "soft" }, "0.6"), draw("text", { x: 2, y: y(0.3) + 4, class: "soft" }, "0.3"),
    usual.node, now.node);
  held(hill, (px, _, hand) => {
    const r = inside((px - LEFT) / (W - LEFT - 10)), key = hand ?? (Math.abs(r - state.t) < Math.abs(r - state.q) ? "t" : "q");
    change({ [key]: r });
    return key;
  });

  // all q and t at once
  const region = draw("path", { class: "recognition", fill: "currentColor", opacity: 0.35 }), here = draw("circle", { r: 6, class: "handle" });
  const S = 200, [OX, OY] = [26, 8], side1 = S / FINE, sx = (q) => OX + q * S, sy = (t) => OY + (1 - t) * S;
  const square = draw("svg", { viewBox: "0 0 240 236", role: "img", "aria-label": "every q and t: the unit fires where it is blue, below the diagonal, whatever the step" },
    region, draw("rect", { x: OX, y: OY, width: S, height: S, fill: "none", stroke: "var(--lively-rule)" }),
    draw("line", { x1: sx(0), y1: sy(0), x2: sx(1), y2: sy(1), stroke: "currentColor", "stroke-dasharray": "3 4" }),
    draw("text", { x: sx(0.5), y: 232, "text-anchor": "middle", class: "soft" }, "now q"), draw("text", { x: 14, y: sy(0.5), "text-anchor": "middle", transform: `rotate(-90 14 ${sy(0.5)})`, class: "soft" }, "usually t"),
    draw("text", { x: sx(0.72), y: sy(0.25), "text-anchor": "middle" }, "fires"), draw("text", { x: sx(0.28), y: sy(0.72), "text-anchor": "middle" }, "is silent"), here);
  held(square, (px, py) => (change({ q: inside((px - OX) / S), t: inside(1 - (py - OY) / S) }), "both"));
  const map = (epsilon) => {
    let d = "";
    for (let i = 0; i < FINE; i++) for (let j = 0; j < FINE; j++) {
      const [silent, fire] = scores((i + 0.5) / FINE, (j + 0.5) / FINE, epsilon);
      if (fire > silent) d += `M${(OX + i * side1).toFixed(2)} ${(sy((j + 1) / FINE)).toFixed(2)}h${(side1 + 0.05).toFixed(2)}v${(side1 + 0.05).toFixed(2)}h${(-side1 - 0.05).toFixed(2)}z`;
    }
    region.setAttribute("d", d);
  };

  // the numbers
  const cells = Array.from({ length: 3 }, () => [make("td"), make("td")]), heads = [make("th", { scope: "col" }, "silent, y = 0"), make("th", { scope: "col" }, "fires, y = 1")];
  const row = (text, k, name) => make("tr", { class: name }, make("th", { scope: "row" }, text), ...cells[k]);
  const numbers = make("table", {}, make("thead", {}, make("tr", {}, make("td"), ...heads)),
    make("tbody", {}, row("entropy, from t", 0, "data"), row("− entropy now, from q", 1, "recognition"), row("= information", 2)));
  const verdict = make("p", { class: "likelier-verdict" });

  function change(some, aloud = true) {
    Object.assign(state, some);
    const { q, t, epsilon } = state, both = scores(q, t, epsilon), [silent, fire] = both, fires = fire > silent;
    for (const [key, { input, refresh }] of Object.entries(controls)) (input.value = state[key]), refresh();
    usual.update(t, epsilon);
    now.update(q, epsilon);
    here.setAttribute("cx", sx(q));
    here.setAttribute("cy", sy(t));
    if ("epsilon" in some) map(epsilon);
    [0, 1].forEach((bit) => {
      cells[0][bit].textContent = h(stepped(t, bit, epsilon)).toFixed(3);
      cells[1][bit].textContent = h(stepped(q, bit, epsilon)).toFixed(3);
      cells[2][bit].textContent = both[bit].toFixed(3).replace("-", "−");
      cells[2][bit].classList.toggle("won", fires === (bit === 1));
    });
    tried.add(`${q} ${t} ${epsilon}`);
    const agreed = fires === q > t, many = tried.size > 1 ? ` Tried at ${tried.size} places, and the two never disagreed.` : "";
    const rule = `${percent(q)} is ${q > t ? "likelier than" : q === t ? "as likely as" : "not likelier than"} ${q === t ? "usual" : `the usual ${percent(t)}`}`;
    verdict.textContent = agreed ? `${fires ? "Firing" : "Silence"} brings ${q === t ? "as much" : "more"} information, and ${rule}: the unit ${fires ? "fires" : "is silent"}.${many}` : `Information and the comparison disagree at q ${q}, t ${t}, ε ${epsilon}.`;
    if (aloud) say(fires ? "the unit fires" : "the unit is silent");
    publish({ q, t, epsilon, scores: both, fires });
  }

  el.append(
    make("style", {}, STYLE),
    make("div", { class: "controls" }, controls.t, controls.q, controls.epsilon),
    verdict,
    make("div", { class: "likelier" }, hill, make("div", { class: "square" }, square), numbers),
  );
  change(state, false);
}

export default { render };
