// Drift: two hundred units in the plane of their two logits, what pushes them, and the clock that all of them live by.
import { among, announcer, button, calm, choice, draw, ground, lines, make, share, slider, timeline, watchSeen, whole } from "./kit.js";
import { Stream } from "./core.js";
import { carriers, coinBits, evolve, expectedStep, firing, pressure, unitStep } from "./units.js";
import { addressed } from "./address.js";

const STYLE = `
.drift { display: grid; gap: .6rem 1.8rem; grid-template-columns: minmax(0, 1.15fr) minmax(0, 1fr); }
.drift-text { margin: 0 0 .7rem; max-width: 46rem; } .drift .controls { flex-direction: column; align-items: stretch; gap: .35rem; }
.drift .slider input[type=range] { height: 1.5rem; width: 100%; } .drift .slider { line-height: 1.2; }
.lively .drift-text a { border-radius: 2px; color: var(--lively-recognition); cursor: pointer; text-decoration: underline; text-underline-offset: .2em; }
.lively .drift-text a:focus-visible { outline: 2px solid var(--lively-recognition); outline-offset: 2px; }
.lively .drift-text a[aria-current] { background: var(--lively-faint); color: var(--lively-ink); font-weight: 600; text-decoration: none; }
.lively button.drift-toggle[aria-pressed=true] { background: var(--lively-ink); border-color: var(--lively-ink); color: var(--lively-paper); }
.drift svg text { fill: currentColor; font-size: 12px; } .drift .arrow { fill: none; opacity: .62; stroke: currentColor; stroke-width: 1.1; }
.drift .walkers { fill: none; stroke: currentColor; stroke-linecap: round; stroke-width: 5; opacity: .75; } .drift .told { color: var(--lively-recognition); }
.drift .real path { stroke: var(--lively-paper); stroke-width: 1.2; } .drift .agreement { opacity: .5; stroke: currentColor; stroke-dasharray: 3 4; }
.drift-status { font-variant-numeric: tabular-nums; margin: 0 0 .5rem; } .drift-status strong { display: block; font-size: 1.5rem; line-height: 1.2; }
.drift-status span { display: block; } .drift .controls { margin: .6rem 0 0; } .drift-key { display: flex; flex-wrap: wrap; font-size: 12px; gap: .1rem .9rem; margin: .1rem 0 0; min-height: 1.5em; }
.drift-python { font-size: 12px; margin: .5rem 0 0; overflow-wrap: anywhere; } .drift-python code { background: none; border: 0; color: inherit; font-size: inherit; padding: 0; }
.drift .plot { margin-top: 18px; } .drift .plot span:nth-of-type(3) { top: -14px !important; }
@media (max-width: 640px) { .drift { grid-template-columns: minmax(0, 1fr); } }`;

const traits = {
  "moves": {
    "stage": "one unit, two units or a layer, by the name that the figure was given; the units begin anew",
    "lr": "learning rate", "batch": "data, and dreams, a step", "use": "share of the data that say what the bit is",
    "flip": "probability that perturbation flips a toss", "every": "MIM decides in one step of so many; 0: never",
    "falling": "whether the rate falls from now on, as 1/(1 + steps/1000)", "layers": "the trained machine whose units are marked, by name, or none",
    "seed": "1 to 16; the units begin anew", "running": "whether they walk"
  },
  "computes": {
    "steps": "since all coins were fair", "tau": "what the clock shows", "entropy": "mean over the units, bits", "theory": "what the theory says of it, bits",
    "cornered": "share of the units that fire less than a tenth of the time or more than nine tenths", "logits": "once they rest: b and r of every unit"
  }
};

const COUNT = 200, SLICE = 20, PACE = 2000, LONGEST = 60_000, [SIZE, LEFT, EDGE, REACH] = [320, 30, 8, 6];
const THETA = Float64Array.from({ length: 321 }, (_, i) => (i - 160) / 10), BITS = THETA.map((s) => coinBits(firing(s)));

function render({ model, el }) {
  const [stages, real, start, scales, first] = ["stages", "real", "start", "scales", "first"].map((name) => model.get(name));
  const named = Object.fromEntries(stages.map((one) => [one.name, one]));
  const now = Object.fromEntries(Object.keys(traits.moves).map((name) => [name, model.get(name)])), still = calm();
  let walk, stream, densities, steps, tau, since, until, history, keep, pressed, seen = false, begun = false, before = 0, owed = 0;
  now.running = false;
  ground(el, model);
  const say = announcer(el);
  const moved = (name, kind) => [name, [kind, () => now[name], (value) => change({ [name]: value }, name === "seed")]];
  const moves = {
    ...Object.fromEntries(Object.entries({ ...scales, falling: [false, true] }).map(([name, values]) => moved(name, among(values)))),
    ...Object.fromEntries([moved("seed", whole(1, 16))]),
    stage: [among(scales.stage), () => now.stage, (stage) => change(plainly(stage), true)],
    running: [among([false, true]), () => now.running, (on) => play(on)],
  };
  const publish = share(el, model, traits, moves);
  const address = addressed(el, "drift", (values) => go(allowed(values)));
  const allowed = (values) => Object.fromEntries(Object.entries(values).filter(([name, value]) => name !== "running" && moves[name]?.[0].test(value)));
  const plainly = (stage) => ({ ...start, ...named[stage].set, stage });

  /** What of a state is not as the figure began, or as its stage does. */
  const beside = (state) => {
    const differs = Object.entries(state).filter(([name, value]) => !["running", "stage"].includes(name) && value !== plainly(state.stage)[name]);
    return { ...(state.stage === start.stage ? {} : { stage: state.stage }), ...Object.fromEntries(differs) };
  };

  // the walk and its theory
  function begin() {
    const { units, uses } = named[now.stage], fair = () => new Float64Array(COUNT);
    walk = { b: fair(), r: fair(), usual: fair().fill(0.5), units, uses };
    stream = new Stream(0, now.seed);
    densities = [true, false].map(() => THETA.map((s) => +(s === 0)));
    [steps, tau, since, history, keep, pressed] = [0, 0, 0, [], timeline(240), null];
    record();
  }
  const rate = () => now.lr / (now.falling ? 1 + (steps - since) / 1000 : 1);
  function slice() {
    const u = new Float64Array(4 * now.batch * COUNT), middle = rate();
    let passed = 0;
    for (let i = 0; i < SLICE; i++, steps++) {
      unitStep(walk, stream.fill(u), now, rate(), now.every > 0 && (steps + 1) % now.every === 0);
      passed += rate() ** 2 / now.batch;
    }
    if (now.falling || !pressed) pressed = [true, false].map((told) => pressure(THETA, now, middle, told));
    densities = densities.map((density, i) => evolve(density, pressed[i], passed, 0.1));
    tau += passed;
  }
  const mean = (numbers) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
  function record() {
    const { b, r, units, uses } = walk, p = b.map((x, i) => firing((x + r[i]) / 2));
    const [told, idle] = densities.map((density) => density.reduce((sum, weight, i) => sum + weight * BITS[i], 0));
    const point = { steps, tau, entropy: mean(p.map(coinBits)), theory: (uses * told + (units - uses) * idle) / units, cornered: mean(p.map((x) => +(x < 0.1 || x > 0.9))) };
    history = keep(point);
  }
  /** Walk so many steps, or as many as there is time for; gives how many. */
  function advance(count, time = Infinity) {
    const from = steps, end = performance.now() + time;
    while (steps - from + SLICE <= count && performance.now() < end) {
      slice();
      if (steps % 200 === 0) record();
    }
    record();
    return steps - from;
  }

  // the plane
  const at = (s) => ((Math.min(REACH, Math.max(-REACH, s)) + REACH) / (2 * REACH)) * (SIZE - LEFT - EDGE);
  const x = (r) => +(LEFT + at(r)).toFixed(1), y = (b) => +(SIZE - LEFT - at(b)).toFixed(1), ticks = [-6, -3, 0, 3, 6], grid = [-5.25, -3.75, -2.25, -0.75, 0.75, 2.25, 3.75, 5.25];
  const arrows = draw("path", { class: "arrow" }), idle = draw("path", { class: "walkers data" }), told = draw("path", { class: "walkers told" }), marks = draw("g", { class: "real" });
  const label = (words, px, py, anchor, more = {}) => draw("text", { x: px, y: py, "text-anchor": anchor, ...more }, words), signed = (v) => String(v).replace("-", "−");
  const plane = draw("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": "each unit at its two logits: recognition's to the right, generation's upward; arrows are the expected step" },
    draw("path", { d: `M${x(-6)} ${y(6)}V${y(-6)}H${x(6)}`, fill: "none", stroke: "var(--lively-rule)" }),
    draw("line", { class: "agreement", x1: x(-6), x2: x(6), y1: y(-6), y2: y(6) }), arrows, idle, told, marks,
    ...ticks.flatMap((v) => [label(signed(v), x(v), SIZE - LEFT + 14, v < 6 ? "middle" : "end"), label(signed(v), LEFT - 5, y(v) + (v > -6 ? 4 : 0), "end")]),
    label("recognition's logit r", x(0), SIZE - 3, "middle"), label("generation's logit b", 11, y(0), "middle", { transform: `rotate(-90 11 ${y(0)})` }),
    label("always off", x(-4.2), y(-5.75), "start"), label("always on", x(4.2), y(5.5), "end"));
  const dots = (list) => list.map((i) => `M${x(walk.r[i])} ${y(walk.b[i])}h0`).join("");
  const arrow = (b, r) => {
    const [db, dr] = expectedStep(b, r, now, now.lr), size = Math.hypot(db, dr) / now.lr;
    if (size < 2e-3) return "";
    const long = (19 * Math.sqrt(size)) / (size * now.lr), [dx, dy] = [dr * long, -db * long], [ex, ey] = [x(r) + dx, y(b) + dy];
    const back = (turn) => `L${(ex - 0.3 * (dx * Math.cos(turn) - dy * Math.sin(turn))).toFixed(1)} ${(ey - 0.3 * (dx * Math.sin(turn) + dy * Math.cos(turn))).toFixed(1)}`;
    return `M${x(r)} ${y(b)}L${ex.toFixed(1)} ${ey.toFixed(1)}${back(0.5)}M${ex.toFixed(1)} ${ey.toFixed(1)}${back(-0.5)}`;
  };
  function pointAtForces() {
    arrows.setAttribute("d", grid.flatMap((b) => grid.map((r) => arrow(b, r))).join(""));
    const mark = ([layer, r, b]) => draw("path", { d: `M${x(r)} ${y(b) - 6}l6 6l-6 6l-6 -6z`, fill: `var(--layer-${layer})` });
    marks.replaceChildren(...(real[now.layers] ?? []).map(mark));
    const layers = [...new Set((real[now.layers] ?? []).map(([layer]) => layer))];
    const entry = (colour, glyph, words) => make("span", {}, make("span", { style: `color: ${colour}`, "aria-hidden": "true" }, `${glyph} `), words);
    key.replaceChildren(...(now.use > 0 ? [entry("var(--lively-recognition)", "●", "told by the data"), entry("var(--lively-data)", "●", "idle")] : []),
      ...layers.map((layer) => entry(`var(--layer-${layer})`, "◆", `layer ${layer}`)));
  }

  // the clock
  const status = make("p", { class: "drift-status" }), key = make("p", { class: "drift-key" }), count = (n) => n.toLocaleString("en");
  const curves = lines({ label: "entropy of the units, and what the theory says, over the clock", height: 96, unit: "bit", right: 98, xlabel: (v) => `τ = ${v < 10 ? v.toFixed(1) : Math.round(v)}`,
    series: [{ name: "units", color: "var(--lively-data)" }, { name: "theory", color: "var(--mim)" }] });
  function show() {
    const carries = carriers(walk.b, walk.r, walk.units, walk.uses), all = [...carries.keys()], last = history.at(-1);
    idle.setAttribute("d", dots(all.filter((i) => !(now.use > 0 && carries[i]))));
    told.setAttribute("d", dots(all.filter((i) => now.use > 0 && carries[i])));
    status.replaceChildren(make("strong", {}, `τ = ${tau < 10 ? tau.toFixed(1) : Math.round(tau)}`), make("span", {}, `after ${count(steps)} steps`),
      make("span", {}, `${Math.round(100 * last.cornered)} % of the units are nearly constant`));
    curves.update(history.map((h) => h.tau), ["entropy", "theory"].map((name) => history.map((h) => h[name])), { xmax: tau || 1, ymax: 1 });
    el.dataset.steps = steps;
    const { entropy, theory, cornered } = last, resting = now.running ? {} : { logits: [[...walk.b], [...walk.r]] };
    publish({ steps, tau, entropy, theory, cornered, ...resting }, now.running ? 300 : 0);
  }
  const tell = () => say(`At ${Math.round(tau)} on the clock the units have ${history.at(-1).entropy.toFixed(2)} bit, the theory says ${history.at(-1).theory.toFixed(2)}; ${Math.round(100 * history.at(-1).cornered)} per cent are nearly constant.`);

  // what the hand does
  function change(some, again = false) {
    if (some.falling && !now.falling) since = steps;
    Object.assign(now, some);
    pressed = null;
    for (const [name, { node, values }] of Object.entries(sliders)) (node.input.value = values.indexOf(now[name])), node.refresh();
    picked.set(now.stage);
    shown.set(now.layers);
    for (const [name, node] of Object.entries(toggles)) node.setAttribute("aria-pressed", now[name]);
    if (again) begin();
    text.replaceChildren(...told_in(named[now.stage].text));
    pointAtForces();
    show();
    const called = Object.entries(now).filter(([name, value]) => name !== "running" && value !== start[name]), word = (value) => (typeof value === "string" ? `"${value}"` : value === true ? "True" : value === false ? "False" : value);
    python.textContent = `drift_plane(${["…", ...called.map(([name, value]) => `${name}=${word(value)}`)].join(", ")})`;
    const { running, ...settings } = now;
    publish(settings);
    address.write(beside(now));
  }
  /** Into the state that somebody named, from fair coins on. */
  function go(values) {
    change({ ...plainly(values.stage ?? now.stage), ...values }, true);
    begun = true;
    if (still) jump(8000);
    else play(true);
  }
  function jump(count) {
    play(false);
    advance(count);
    show();
    tell();
  }
  function play(on) {
    if (on && still) return jump(2000), publish({ running: false });
    const rests = now.running && !on;
    now.running = on;
    begun = true;
    [before, owed, until] = [performance.now(), 0, steps + LONGEST];
    player.textContent = on ? "Pause" : "Play";
    publish({ running: on });
    if (on && seen) requestAnimationFrame(frame);
    if (rests) show(), tell();
  }
  function frame(time) {
    if (!now.running || !seen) return;
    // what it cannot do in time is let go
    owed = Math.min(owed + (PACE * Math.max(0, time - before)) / 1000, 200);
    before = time;
    owed -= advance(owed, 12);
    show();
    if (steps >= until) play(false);
    else requestAnimationFrame(frame);
  }

  // controls and sentences
  const scale = (name, words, tell, values = scales[name]) => {
    const node = slider(words, { max: values.length - 1, step: 1, value: values.indexOf(now[name]), show: (i) => tell(values[i]) }, (i) => change({ [name]: values[i] }));
    return { node, values };
  };
  const percent = (v) => `${+(100 * v).toFixed(1)} %`;
  const sliders = {
    lr: scale("lr", "learning rate", String), batch: scale("batch", "batch", String), use: scale("use", "the data tell the bit", (v) => (v ? `${percent(v)} of the time` : "never")),
    flip: scale("flip", "perturbation flips", (v) => (v ? `${percent(v)} of the tosses` : "nothing")),
    every: scale("every", "MIM decides", (m) => (m === 0 ? "never" : m === 1 ? "in every step" : `in one step of ${m}`)),
  };
  const toggles = { falling: button("let the rate fall", () => change({ falling: !now.falling }), { class: "drift-toggle" }) };
  const picked = choice("units of a machine", Object.fromEntries(scales.stage.map((name) => [name, name])), now.stage, (stage) => go({ stage }));
  const shown = choice("units of a trained machine", Object.fromEntries(scales.layers.map((name) => [name, name])), now.layers, (layers) => change({ layers }));
  const player = button("Play", () => play(!now.running), { class: "primary" }), python = make("code"), text = make("p", { class: "drift-text" });
  if (still) player.hidden = true;
  const said = (values) => Object.fromEntries(values.split(",").filter(Boolean).map((pair) => pair.split("=")).map(([name, value]) => [name, Number.isFinite(+value) ? +value : value === "true" ? true : value]));
  function told_in(words) {
    return words.split(/(\[[^\]]+\]\([^)]*\))/).map((piece) => {
      const link = piece.match(/^\[([^\]]+)\]\(([^)]*)\)$/);
      if (!link) return piece;
      const values = said(link[2]), state = { ...plainly(now.stage), ...values }, here = Object.keys(state).every((name) => state[name] === now[name]);
      const onclick = (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        go(values);
        text.querySelector("[aria-current]")?.focus();
      };
      return make("a", { href: address.to(beside(state)) || "#", "aria-current": here && "true", onclick }, link[1]);
    });
  }
  el.append(
    make("style", {}, STYLE), make("div", { class: "controls" }, picked), text,
    make("div", { class: "drift" },
      make("div", {}, plane, key,
        make("div", { class: "controls" }, make("div", { class: "together", style: "flex-wrap: wrap" }, player, button("On by 2000 steps", () => jump(2000)), button("Begin again", () => go(beside(now)))), shown)),
      make("div", {}, status, curves.node, make("div", { class: "controls" }, ...Object.values(sliders).map(({ node }) => node), make("div", {}, toggles.falling)))),
    make("p", { class: "drift-python" }, "this state in Python: ", python),
  );
  const asked = allowed(address.read());
  change({ ...now, ...(Object.keys(asked).length ? { ...plainly(asked.stage ?? now.stage), ...asked } : {}) }, true);
  return watchSeen(el, (visible) => {
    seen = visible;
    if (seen && !begun) still ? jump(first) : play(true);
    else if (seen && now.running) (before = performance.now()), requestAnimationFrame(frame);
  });
}

export default { render };
