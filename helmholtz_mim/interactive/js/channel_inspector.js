// Channel inspector: where does each input state go, and how much of what comes out is about what went in?
import { announcer, bars, draw, ground, make, share, slider, whole, within } from "./kit.js";
import { conditionalEntropy, divergence, entropy, logits, push, table } from "./core.js";

const STYLE = `
.channel { align-items: start; display: grid; gap: .4rem 2rem; grid-template-columns: minmax(0, 1.15fr) minmax(0, 1fr); }
.channel .grid { cursor: pointer; } .channel svg:focus-visible { outline: 2px solid var(--lively-recognition); outline-offset: 2px; }
.channel text { fill: currentColor; font-size: 9px; font-variant-numeric: tabular-nums; } .channel .soft { opacity: .65; }
.channel .cell { fill: var(--lively-recognition); } .channel .mean { fill: var(--lively-data); } .channel .apart { fill: var(--lively-generative); }
.channel .frame { fill: none; stroke: var(--lively-rule); } .channel .chosen { fill: none; stroke: var(--lively-ink); stroke-width: 1.6; }
.channel .information { fill: var(--lively-recognition); } .channel .noise { fill: var(--lively-data); fill-opacity: .35; } .channel .unused { fill: none; stroke: var(--lively-rule); }
.channel .states { display: flex; font-size: 10px; justify-content: space-around; } .channel p { font-variant-numeric: tabular-nums; margin: .3rem 0 .6rem; }
.channel dl { display: grid; gap: 0 .8rem; grid-template-columns: max-content max-content; margin: .4rem 0 0; } .channel :is(dt, dd) { font-variant-numeric: tabular-nums; float: none; font-weight: 400; margin: 0; padding: 0; width: auto; } .channel dd { text-align: right; }
.channel-verdict { font-weight: 600; margin: 0 0 .6rem; min-height: 2.8em; }
@media (max-width: 640px) { .channel { grid-template-columns: minmax(0, 1fr); } .channel-verdict { min-height: 4.2em; } }`;

const traits = {
  "moves": { "x": "input state, as a number", "sharpness": "0 to 5", "pull": "to one state, 0 to 8" },
  "computes": {
    "H": "entropy of the output, nats", "noise": "H(Y|X), nats", "I": "information, nats",
    "channel": "p(y|x), a row for each x", "KL": "of each row from the output of all, nats"
  }
};

const word = (k, n) => k.toString(2).padStart(n, "0");

function render({ model, el }) {
  const [inputs, n, weights] = ["inputs", "outputs", "weights"].map((name) => model.get(name)), rows = 2 ** inputs, columns = 2 ** n;
  const state = { x: model.get("x"), sharpness: model.get("sharpness"), pull: model.get("pull") };
  const evenly = new Float64Array(rows).fill(1 / rows), most = n * Math.LN2;
  ground(el, model);
  const say = announcer(el);
  const publish = share(el, model, traits, {
    x: [whole(0, rows - 1), () => state.x, (x) => change({ x })],
    sharpness: [within(0, 5), () => state.sharpness, (sharpness) => change({ sharpness })],
    pull: [within(0, 8), () => state.pull, (pull) => change({ pull })],
  });

  // the channel as the sliders have it: logits times sharpness, plus a pull of every unit towards one state
  const raw = logits(Float64Array.from(weights), inputs, n);
  const usual = push(evenly, raw, n), favourite = usual.indexOf(Math.max(...usual));
  const measure = () => {
    const s = raw.map((v, i) => state.sharpness * v + ((favourite >> (n - 1 - (i % n))) & 1 ? state.pull : -state.pull));
    const P = Array.from({ length: rows }, (_, k) => {
      const row = new Float64Array(columns);
      table(s, k, n, 0, n, row);
      return row;
    });
    const mean = push(evenly, s, n), H = entropy(mean), noise = conditionalEntropy(evenly, s, n);
    return { P, mean, H, noise, I: H - noise, apart: P.map((row) => divergence(row, mean)) };
  };

  // drawings
  const [CELL, TALL, LEFT, TOP, SIDE] = [22, 12, 26, 14, 66], at = (k) => TOP + k * TALL, right = LEFT + columns * CELL;
  const cells = Array.from({ length: rows }, (_, k) => Array.from({ length: columns }, (_, y) => draw("rect", { x: LEFT + y * CELL, y: at(k), width: CELL, height: TALL, class: "cell" })));
  const means = Array.from({ length: columns }, (_, y) => draw("rect", { x: LEFT + y * CELL, y: at(rows) + 5, width: CELL, height: TALL, class: "mean" }));
  const tails = Array.from({ length: rows }, (_, k) => draw("rect", { x: right + 8, y: at(k) + 3, height: TALL - 6, class: "apart" }));
  const chosen = draw("rect", { x: LEFT, width: columns * CELL, height: TALL, class: "chosen" });
  const text = (x, y, what, more = {}) => draw("text", { x, y, class: "soft", ...more }, what);
  const mark = draw("line", { y1: TOP, y2: at(rows) + 2, stroke: "currentColor", "stroke-dasharray": "2 2" }), letter = text(0, at(rows) + 13, "I", { "text-anchor": "middle" });
  const grid = draw("svg", { class: "grid", viewBox: `0 0 ${right + SIDE + 10} ${at(rows) + 2 * TALL + 14}`, role: "img", tabindex: 0, "aria-label": "the channel: a row for each input state; up and down choose one" },
    ...cells.flat(), ...means, ...tails, mark, letter,
    draw("rect", { x: LEFT, y: TOP, width: columns * CELL, height: rows * TALL, class: "frame" }), draw("rect", { x: LEFT, y: at(rows) + 5, width: columns * CELL, height: TALL, class: "frame" }), chosen,
    ...cells.map((_, k) => text(LEFT - 4, at(k) + 9, word(k, inputs), { "text-anchor": "end" })), ...means.map((_, y) => text(LEFT + (y + 0.5) * CELL, at(rows) + 2 * TALL + 5, word(y, n), { "text-anchor": "middle" })),
    text(LEFT - 4, at(rows) + 14, "all", { "text-anchor": "end" }), text(LEFT - 4, 9, "x", { "text-anchor": "end" }), text(LEFT, 9, "p(y | x)"), text(right + 8, 9, "KL(row ‖ all)"));
  const row = bars({ label: "the chosen row upward, the output of all rows downward", height: 96, down: "data" });
  const about = make("p"), verdict = make("p", { class: "channel-verdict" });
  const [WIDE, HIGH] = [300, 26], parts = ["information", "noise"].map((name) => draw("rect", { height: HIGH, class: name }));
  const split = draw("svg", { viewBox: `-1 -1 ${WIDE + 2} ${HIGH + 2}`, role: "img", "aria-label": "the entropy that the output can hold: information, noise, and what is not used" }, draw("rect", { width: WIDE, height: HIGH, class: "unused" }), ...parts);
  const values = Object.fromEntries(["H(Y), entropy", "− H(Y | X), noise", "= I, information"].map((name) => [name, make("dd")]));
  const sums = make("dl", {}, ...Object.entries(values).flatMap(([name, value]) => [make("dt", {}, name), value]));

  const judge = ({ H, I }) =>
    H < 0.2 * most ? "Nearly every input goes to the same state: the rows lie on top of each other, and the layer says nothing."
      : I < 0.2 * H ? "The output varies, but hardly with the input: wide rows lie over each other, and what varies is noise."
      : I > 0.8 * H ? "Narrow rows, spread over the columns: nearly all that the output says is about the input."
      : "Rows are spread, and overlap: part of what the output says is about the input, part is noise.";

  function change(some, aloud = true) {
    Object.assign(state, some);
    const result = measure(), { P, mean, H, noise, I, apart } = result, { x } = state, long = (nats) => SIDE * Math.min(1, nats / most);
    for (const [key, { input, refresh }] of Object.entries(controls)) (input.value = state[key]), refresh();
    cells.forEach((line, k) => line.forEach((cell, y) => cell.setAttribute("fill-opacity", P[k][y].toFixed(3))));
    means.forEach((cell, y) => cell.setAttribute("fill-opacity", mean[y].toFixed(3)));
    tails.forEach((tail, k) => tail.setAttribute("width", long(apart[k]).toFixed(2)));
    for (const name of ["x1", "x2"]) mark.setAttribute(name, right + 8 + long(I));
    letter.setAttribute("x", right + 8 + long(I));
    chosen.setAttribute("y", at(x));
    row.update(P[x], mean, 1);
    const into = P[x].indexOf(Math.max(...P[x]));
    about.textContent = `${word(x, inputs)} goes to ${word(into, n)} with probability ${P[x][into].toFixed(2)}. Its row has ${entropy(P[x]).toFixed(2)} nats of noise and is ${apart[x].toFixed(2)} nats away from the output of all rows; the mean of that over all rows is I.`;
    parts[0].setAttribute("width", (WIDE * Math.max(0, I)) / most);
    parts[1].setAttribute("x", (WIDE * Math.max(0, I)) / most);
    parts[1].setAttribute("width", (WIDE * noise) / most);
    [H, noise, I].forEach((v, i) => (Object.values(values)[i].textContent = `${Math.abs(v).toFixed(3)} nats`));
    const words = judge(result);
    if (aloud) say("x" in some ? about.textContent : words);
    verdict.textContent = words;
    publish({ ...state, H, noise, I, channel: P.map((p) => [...p]), KL: apart });
  }
  const controls = {
    x: slider("input state x", { max: rows - 1, step: 1, value: state.x, show: (k) => word(k, inputs) }, (x) => change({ x })),
    sharpness: slider("sharpness", { max: 5, step: 0.1, value: state.sharpness, show: (v) => `× ${v.toFixed(1)}` }, (sharpness) => change({ sharpness })),
    pull: slider("pull to one state", { max: 8, step: 0.1, value: state.pull, show: (v) => `${word(favourite, n)}, ${v.toFixed(1)}` }, (pull) => change({ pull })),
  };
  const choose = (x) => change({ x: Math.min(rows - 1, Math.max(0, x)) });
  const under = (event) => choose(Math.floor((new DOMPoint(event.clientX, event.clientY).matrixTransform(grid.getScreenCTM().inverse()).y - TOP) / TALL));
  grid.addEventListener("click", under);
  grid.addEventListener("keydown", (event) => {
    const turn = { ArrowDown: 1, ArrowUp: -1, Home: -rows, End: rows }[event.key];
    if (!turn) return;
    event.preventDefault();
    choose(state.x + turn);
  });

  el.append(
    make("style", {}, STYLE),
    make("div", { class: "controls" }, controls.sharpness, controls.pull, controls.x),
    verdict,
    make("div", { class: "channel" }, grid,
      make("div", {},
        make("div", { class: "title" }, make("span", { class: "recognition" }, "this row"), " against ", make("span", { class: "data" }, "all rows")), row.node, make("div", { class: "states" }, ...means.map((_, y) => make("span", {}, word(y, n)))),
        about, make("div", { class: "title" }, `${most.toFixed(2)} nats that the output can hold`), split, sums)),
  );
  change(state, false);
}

export default { render };
