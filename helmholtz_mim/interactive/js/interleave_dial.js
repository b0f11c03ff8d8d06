// Interleave dial: how often another rule than a coin decides, and what that does to entropy, information and divergence.
import { among, announcer, draw, ground, make, share, slider } from "./kit.js";

const STYLE = `
.dial { display: grid; gap: .4rem 1.4rem; grid-template-columns: repeat(3, minmax(0, 1fr)); }
.dial svg { cursor: ew-resize; touch-action: pan-y; } .dial text { fill: currentColor; font-size: 12px; opacity: .75; }
.dial .values { display: flex; flex-wrap: wrap; font-size: 12.5px; font-variant-numeric: tabular-nums; gap: 0 .9rem; min-height: 2.8em; }
.dial .curve { fill: none; stroke: currentColor; stroke-width: 1.8; } .dial .other { opacity: .25; } .dial .band { fill: currentColor; opacity: .16; } .dial .dot { fill: currentColor; stroke: var(--lively-paper); stroke-width: 2; }
.lively .is-mim { color: var(--mim); } .lively .is-flip { color: var(--flip); } .lively .is-none { color: var(--wake-sleep); }
.dial .none { stroke: currentColor; stroke-dasharray: 4 4; stroke-width: 1.4; } .dial .hand { stroke: var(--lively-ink); stroke-width: 1; }
.dial-verdict { margin: 0 0 .6rem; min-height: 4.2em; } .dial-verdict span { display: block; font-variant-numeric: tabular-nums; font-weight: 600; }
@media (max-width: 640px) { .dial { grid-template-columns: minmax(0, 1fr); } .dial .values { min-height: 1.4em; } .dial-verdict { min-height: 8.4em; } }`;

const traits = {
  "moves": { "every": "the rule decides in one step of so many", "rate": "of perturbation" },
  "computes": { "values": "of each measure where the dial stands, nats: MIM, factorial; perturbation; neither" }
};

/** The next number with a plain name. */
const above = (v) => {
  const power = 10 ** Math.floor(Math.log10(v));
  return +([1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((m) => m * power >= v) * power).toPrecision(2);
};
const [W, H, LEFT, TOP, BELOW] = [280, 150, 14, 16, 20];

function render({ model, el }) {
  const [everys, rates, measures, mim, flip, none] = ["everys", "rates", "measures", "mim", "flip", "none"].map((name) => model.get(name));
  const state = { every: everys.indexOf(model.get("every")), rate: rates.indexOf(model.get("rate")) };
  ground(el, model);
  const say = announcer(el);
  const publish = share(el, model, traits, {
    every: [among(everys), () => everys[state.every], (every) => change({ every: everys.indexOf(every) })],
    rate: [among(rates), () => rates[state.rate], (rate) => change({ rate: rates.indexOf(rate) })],
  });
  const x = (i) => LEFT + ((W - 2 * LEFT) * i) / (everys.length - 1);

  // one plot a measure: the mean over seeds with its interval, over how often the rule decides
  const plots = Object.entries(measures).map(([key, name]) => {
    const all = [mim[key], ...flip.map((one) => one[key])], most = above(Math.max(none[key], ...all.flat().map((v) => v.mean + v.half)));
    const y = (v) => TOP + (H - TOP - BELOW) * (1 - Math.max(0, v) / most), path = (values) => values.map((v, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join("");
    const curve = (values) => path(values.map((v) => v.mean));
    const band = (values) => path(values.map((v) => v.mean + v.half)) + values.map((v, i) => `L${x(i).toFixed(1)} ${y(v.mean - v.half).toFixed(1)}`).reverse().join("") + "z";
    const others = flip.map((one) => draw("path", { class: "curve other", d: curve(one[key]) }));
    const bands = [draw("path", { class: "band is-mim", d: band(mim[key]) }), draw("path", { class: "band is-flip" })];
    const mine = draw("path", { class: "curve is-flip" }), hand = draw("line", { class: "hand", y1: TOP, y2: H - BELOW });
    const dots = ["is-mim", "is-flip"].map((scheme) => draw("circle", { r: 5, class: `dot ${scheme}` }));
    const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${name}, over how often the rule decides` },
      draw("path", { d: `M${LEFT} ${TOP}V${H - BELOW}H${W - LEFT}`, fill: "none", stroke: "var(--lively-rule)" }),
      draw("g", { class: "is-flip" }, ...others), ...bands, draw("line", { class: "none is-none", x1: LEFT, x2: W - LEFT, y1: y(none[key]), y2: y(none[key]) }),
      draw("path", { class: "curve is-mim", d: curve(mim[key]) }), mine, hand, ...dots, draw("text", { x: LEFT, y: 11 }, `${most} nats`),
      ...everys.map((every, i) => draw("text", { x: x(i), y: H - 5, "text-anchor": "middle" }, every)));
    const values = ["is-mim", "is-flip", "is-none"].map((scheme) => make("span", { class: scheme }));
    const pick = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
      change({ every: Math.round(Math.min(1, Math.max(0, (at - LEFT) / (W - 2 * LEFT))) * (everys.length - 1)) });
    };
    svg.addEventListener("pointerdown", (event) => (svg.setPointerCapture(event.pointerId), pick(event), event.preventDefault()));
    svg.addEventListener("pointermove", (event) => svg.hasPointerCapture(event.pointerId) && pick(event));
    const update = () => {
      const noise = flip[state.rate][key], now = [mim[key][state.every], noise[state.every]];
      mine.setAttribute("d", curve(noise));
      bands[1].setAttribute("d", band(noise));
      for (const end of ["x1", "x2"]) hand.setAttribute(end, x(state.every));
      dots.forEach((dot, i) => (dot.setAttribute("cx", x(state.every)), dot.setAttribute("cy", y(now[i].mean))));
      values.forEach((span, i) => (span.textContent = `${["MIM, factorial", "perturbation", "neither"][i]} ${(i < 2 ? now[i].mean : none[key]).toFixed(2)}`));
    };
    return { update, node: make("div", {}, make("div", { class: "title" }, name), make("div", { class: "values" }, ...values), svg) };
  });

  const verdict = make("p", { class: "dial-verdict" }), nth = (every) => (every === 1 ? "every step" : `every ${every}${every === 2 ? "nd" : "th"} step`);
  const tell = (name, curves) => {
    const [h, i, kl] = Object.keys(measures).map((key) => curves[key][state.every]);
    const by = (v) => (v.low <= 0 && v.high >= 0 ? "no clear change" : `${v.difference > 0 ? "+" : "−"}${Math.abs(v.difference).toFixed(2)}`);
    return `${name}: entropy ${by(h)}, information ${by(i)}, divergence ${by(kl)}`;
  };
  function change(some, aloud = true) {
    Object.assign(state, some);
    for (const [key, { input, refresh }] of Object.entries(controls)) (input.value = state[key]), refresh();
    plots.forEach((plot) => plot.update());
    const lines = [["is-mim", tell("MIM, factorial", mim)], ["is-flip", tell(`Perturbation at ${rates[state.rate]}`, flip[state.rate])]];
    verdict.replaceChildren(`In ${nth(everys[state.every])}, compared with plain wake-sleep. `, ...lines.map(([scheme, text]) => make("span", { class: scheme }, `${text}. `)));
    if (aloud) say(verdict.textContent);
    const here = (key) => ({ mim: mim[key][state.every].mean, flip: flip[state.rate][key][state.every].mean, neither: none[key] });
    publish({ every: everys[state.every], rate: rates[state.rate], values: Object.fromEntries(Object.keys(measures).map((key) => [key, here(key)])) });
  }
  const controls = {
    every: slider("the rule decides in", { max: everys.length - 1, step: 1, value: state.every, show: (i) => nth(everys[i]) }, (every) => change({ every })),
    rate: slider("perturbation flips", { max: rates.length - 1, step: 1, value: state.rate, show: (i) => `${rates[i]} of the bits` }, (rate) => change({ rate })),
  };
  el.append(make("style", {}, STYLE), make("div", { class: "controls" }, controls.every, controls.rate), verdict, make("div", { class: "dial" }, ...plots.map((plot) => plot.node)));
  change(state, false);
}

export default { render };
