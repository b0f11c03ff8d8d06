// A machine cut over ranks, by units or by rows: who owns which bits, what travels, and how long a step takes.
import { among, announcer, choice, draw, ground, make, share, slider } from "./kit.js";
import { askedOfARank, owner, stepSeconds } from "./ranks.js";
import { addressed } from "./address.js";

const STYLE = `
.cuts { display: grid; gap: .6rem 1.8rem; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
.cuts-text { margin: 0 0 .7rem; max-width: 46rem; } .cuts .controls { flex-direction: column; align-items: stretch; gap: .35rem; }
.cuts .slider input[type=range] { height: 1.5rem; width: 100%; } .cuts .slider { line-height: 1.2; }
.lively .cuts-text a { border-radius: 2px; color: var(--lively-recognition); cursor: pointer; text-decoration: underline; text-underline-offset: .2em; }
.lively .cuts-text a:focus-visible { outline: 2px solid var(--lively-recognition); outline-offset: 2px; }
.lively .cuts-text a[aria-current] { background: var(--lively-faint); color: var(--lively-ink); font-weight: 600; text-decoration: none; }
.cuts svg text { fill: currentColor; font-size: 12px; } .cuts-table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
.cuts-table :is(td, th) { border-bottom: 1px solid var(--lively-rule); font-weight: 400; padding: .2rem .3rem; text-align: right; }
.cuts-table :is(td, th):first-child { text-align: left; } .cuts-table tr.chosen > * { font-weight: 600; }
.cuts-python { font-size: 12px; margin: .5rem 0 0; overflow-wrap: anywhere; } .cuts-python code { background: none; border: 0; color: inherit; font-size: inherit; padding: 0; }
@media (max-width: 640px) { .cuts { grid-template-columns: minmax(0, 1fr); } }`;

const traits = {
  "moves": {
    "width": "units in each layer", "batch": "data, and dreams, a step", "ranks": "1 to 16",
    "network": "gigabits a second, by the name that the figure was given", "cut": "units or rows"
  },
  "computes": { "bytes": "that a rank sends in a step, for each cut", "seconds": "of a step: alone, and for each cut" }
};

const [LAYERS, COLUMNS, ROWS, CELL, GAP, TOP] = [4, 20, 32, 4, 8, 18];

function render({ model, el }) {
  const [start, scales, costs, latency, words] = ["start", "scales", "costs", "latency", "words"].map((name) => model.get(name));
  const now = Object.fromEntries(Object.keys(traits.moves).map((name) => [name, model.get(name)]));
  ground(el, model);
  const say = announcer(el), kinds = Object.fromEntries(Object.entries(scales).map(([name, values]) => [name, among(values)]));
  const publish = share(el, model, traits, Object.fromEntries(Object.entries(kinds).map(([name, kind]) => [name, [kind, () => now[name], (value) => change({ [name]: value })]])));
  const allowed = (values) => Object.fromEntries(Object.entries(values).filter(([name, value]) => kinds[name]?.test(value)));
  const address = addressed(el, "cut_machine", (values) => change({ ...start, ...allowed(values) }));
  const beside = (state) => Object.fromEntries(Object.entries(state).filter(([name, value]) => value !== start[name]));

  // the bits of a batch: a column for each unit, a row for each datum, coloured by who owns them
  const cells = draw("g"), left = (l) => l * (COLUMNS * CELL + GAP), width = left(LAYERS) - GAP, height = TOP + ROWS * CELL;
  const named = ["data", "layer 1", "layer 2", "layer 3"].map((name, l) => draw("text", { x: left(l), y: 11 }, name));
  const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "the bits of a batch, a column for each unit and a row for each datum, coloured by the rank that owns them" }, ...named, cells);
  const mixed = (k) => Math.imul(k ^ (k >>> 7), 0x9e3779b1), fires = (k) => (mixed(mixed(k)) >>> 9) % 5 < 2;
  function paint() {
    const paths = Array.from({ length: now.ranks }, () => ["", ""]);
    for (let l = 0; l < LAYERS; l++)
      for (let c = 0; c < COLUMNS; c++)
        for (let r = 0; r < ROWS; r++) {
          const [k, n] = now.cut === "units" ? [(c + 0.5) / COLUMNS, now.width] : [(r + 0.5) / ROWS, now.batch];
          const rank = owner(Math.floor(k * n), n, now.ranks), on = fires((l * COLUMNS + c) * ROWS + r + 1);
          paths[rank][+on] += `M${left(l) + c * CELL} ${TOP + r * CELL}h3.4v3.4h-3.4z`;
        }
    cells.replaceChildren(...paths.flatMap((both, rank) => both.map((d, on) => draw("path", { d, fill: `hsl(${Math.round((360 * rank) / now.ranks)} 65% 48%)`, opacity: on ? 1 : 0.3 }))));
  }

  // what it costs
  const body = make("tbody"), status = make("p", { class: "cuts-status" });
  const table = make("table", { class: "cuts-table" }, make("thead", {}, make("tr", {}, ...["cut", "sent a step", "a step takes", "faster"].map((name) => make("th", { scope: "col" }, name)))), body);
  const digits = (x, count = 3) => (+x.toPrecision(count)).toLocaleString("en");
  const size = (n) => (n < 1e3 ? `${n} B` : n < 1e6 ? `${digits(n / 1e3)} kB` : n < 1e9 ? `${digits(n / 1e6)} MB` : `${digits(n / 1e9)} GB`);
  const time = (s) => (s < 1e-3 ? `${digits(1e6 * s)} µs` : s < 1 ? `${digits(1e3 * s)} ms` : `${digits(s)} s`);
  function reckon() {
    const sizes = Array(LAYERS).fill(now.width), shares = { alone: [1, 1], units: [now.ranks, 1], rows: [1, now.ranks] };
    const of = (call) => Object.fromEntries(Object.entries(shares).map(([name, cut]) => [name, call(cut)]));
    const sent = of((cut) => Math.round(askedOfARank(sizes, now.batch, ...cut)[3]));
    const seconds = of((cut) => stepSeconds(sizes, now.batch, ...cut, costs, latency[scales.network.indexOf(now.network)], now.network));
    const row = (name, words) => make("tr", { class: name === now.cut && "chosen" }, make("th", { scope: "row" }, words), make("td", {}, size(sent[name])), make("td", {}, time(seconds[name])), make("td", {}, `${digits(seconds.alone / seconds[name], 2)} ×`));
    body.replaceChildren(row("alone", "one rank"), row("units", "units: bits"), row("rows", "rows: gradients"));
    status.textContent = now.ranks === 1 ? "Alone a rank sends nothing." : `Gradients are ${digits(sent.rows / sent.units, 2)} times as many bytes as bits.`;
    const { alone, ...bytes } = sent;
    publish({ ...now, bytes, seconds });
  }

  function change(some, aloud = true) {
    Object.assign(now, some);
    for (const [name, { node, values }] of Object.entries(sliders)) (node.input.value = values.indexOf(now[name])), node.refresh();
    picked.set(now.cut);
    paint();
    reckon();
    text.replaceChildren(...told());
    const called = Object.entries(beside(now)).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
    python.textContent = `cut_machine(${["…", ...called].join(", ")})`;
    address.write(beside(now));
    if (aloud) say(status.textContent);
  }
  const scale = (name, label, show, values = scales[name]) => ({ values, node: slider(label, { max: values.length - 1, step: 1, value: values.indexOf(now[name]), show: (i) => show(values[i]) }, (i) => change({ [name]: values[i] })) });
  const sliders = {
    width: scale("width", "units in each of four layers", String), batch: scale("batch", "data a step, and dreams", String),
    ranks: scale("ranks", "ranks", String), network: scale("network", "network", (v) => `${v} Gbit/s`),
  };
  const picked = choice("what is cut", { units: "units", rows: "rows" }, now.cut, (cut) => change({ cut })), python = make("code"), text = make("p", { class: "cuts-text" });
  const said = (pairs) => Object.fromEntries(pairs.split(",").filter(Boolean).map((pair) => pair.split("=")).map(([name, value]) => [name, Number.isFinite(+value) ? +value : value]));
  const told = () => words.split(/(\[[^\]]+\]\([^)]*\))/).map((piece) => {
    const link = piece.match(/^\[([^\]]+)\]\(([^)]*)\)$/);
    if (!link) return piece;
    const state = { ...start, ...said(link[2]) }, here = Object.keys(state).every((name) => state[name] === now[name]);
    const onclick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      change(state);
      text.querySelector("[aria-current]")?.focus();
    };
    return make("a", { href: address.to(beside(state)) || "#", "aria-current": here && "true", onclick }, link[1]);
  });
  el.append(make("style", {}, STYLE), text,
    make("div", { class: "cuts" }, make("div", {}, make("div", { class: "controls" }, picked), picture),
      make("div", {}, make("div", { class: "controls" }, ...Object.values(sliders).map(({ node }) => node)), table, status)),
    make("p", { class: "cuts-python" }, "this state in Python: ", python));
  change({ ...start, ...now, ...allowed(address.read()) }, false);
}

export default { render };
