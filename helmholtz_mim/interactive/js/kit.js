// The toolkit of the interactive figures: elements, controls, plots. No framework, no build step.
// Colours come from the page's style sheet and follow its theme; outside the book the fallbacks below serve.

const SHEET = `
.lively { --lively-recognition: var(--recognition, #0072b2); --lively-generative: var(--generative, #b84e00);
  --lively-data: var(--data, #40464d); --lively-paper: var(--paper, var(--jp-layout-color0, #fdfcfa));
  --lively-ink: var(--ink, var(--jp-ui-font-color1, #24282d)); --lively-faint: var(--faint, var(--jp-layout-color2, #f4f2ee));
  --lively-rule: var(--rule, var(--jp-border-color2, #dedad3));
  --layer-0: #440154; --layer-1: #3b528b; --layer-2: #1b7a76; --layer-3: #3c7a20; --layer-4: #866900;
  --wake-sleep: #6b6b6b; --flip: #a8447f; --mim: #007a55;
  color: var(--lively-ink); display: flex; flex-direction: column; margin: 0; max-width: 100%;
  font: 14px/1.4 var(--pst-font-family-heading, var(--jp-ui-font-family, system-ui, sans-serif)); }
html[data-theme="dark"] .lively, [data-jp-theme-light="false"] .lively {
  --lively-recognition: var(--recognition, #6cbdf0); --lively-generative: var(--generative, #f0a04b); --lively-data: var(--data, #c6ccd3);
  --layer-0: #b897e0; --layer-1: #7fa6e8; --layer-2: #4cc4bd; --layer-3: #8fd06a; --layer-4: #e3c84b;
  --wake-sleep: #a9a9a9; --flip: #e39bc6; --mim: #43c59e; }
.lively, .lively * { box-sizing: border-box; }
.lively svg { display: block; max-width: none; overflow: visible; width: 100%; }
.lively .recognition { color: var(--lively-recognition); } .lively .generative { color: var(--lively-generative); }
.lively .data { color: var(--lively-data); } .lively path, .lively line { vector-effect: non-scaling-stroke; }
.lively .controls { align-items: end; display: flex; flex-wrap: wrap; gap: .6rem 1rem; margin: 0 0 .8rem; }
.lively :is(button, select, input, legend, label) { color: inherit; font: inherit; margin: 0; }
.lively :is(button, select) { background: var(--lively-faint); border: 1px solid var(--lively-rule); border-radius: 4px; min-height: 2rem; padding: .15rem .6rem; }
.lively button:not(:disabled) { cursor: pointer; } .lively button:disabled { opacity: .45; }
.lively button:hover:not(:disabled) { border-color: var(--lively-ink); }
.lively button.primary { background: var(--lively-ink); border-color: var(--lively-ink); color: var(--lively-paper); min-width: 4.6rem; }
.lively :is(button, select, input, [tabindex]):focus-visible { outline: 2px solid var(--lively-recognition); outline-offset: 2px; }
.lively .together { display: flex; gap: .5rem; } .lively .title { font-size: 12px; font-weight: 600; margin: .35rem 0 .3rem; }
.lively fieldset { border: 0; display: flex; margin: 0; min-width: 0; padding: 0; }
.lively legend, .lively .name { display: block; float: none; font-size: .8em; opacity: .8; padding: 0; width: auto; }
.lively .choice { border: 1px solid var(--lively-rule); cursor: pointer; padding: .28rem .7rem; position: relative; }
.lively .choice + .choice { border-left: 0; } .lively .choice:first-of-type { border-radius: 4px 0 0 4px; } .lively .choice:last-of-type { border-radius: 0 4px 4px 0; }
.lively .choice:has(:checked) { background: var(--accent, var(--lively-ink)); border-color: var(--accent, var(--lively-ink)); color: var(--lively-paper); }
.lively .choice:has(:focus-visible) { outline: 2px solid var(--lively-recognition); outline-offset: 2px; z-index: 1; }
.lively .choice input { cursor: pointer; inset: 0; opacity: 0; position: absolute; }
.lively .slider { min-width: 9.5rem; white-space: nowrap; }
.lively input[type=range] { accent-color: var(--lively-recognition); display: block; height: 2rem; width: 9rem; }
.lively .plot { position: relative; } .lively .plot span { font-size: 11px; line-height: 1; position: absolute; white-space: nowrap; }
.lively .unseen { clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; white-space: nowrap; width: 1px; }
.lively :is(output, .name) { font-variant-numeric: tabular-nums; } .lively .caption { font-size: .93em; margin: .8rem 0 0; opacity: .85; order: 1; }
.lively .refusal { border-left: 3px solid var(--lively-generative); margin: 0 0 .6rem; padding-left: .6rem; } .lively .refusal:empty { display: none; }
.lively .defining { position: relative; } .lively .term button { background: none; border: 0; border-bottom: 1px dotted; border-radius: 0; cursor: help; font: inherit; min-height: 0; padding: 0; }
.lively .term [role=tooltip] { background: var(--lively-paper); border: 1px solid var(--lively-rule); border-radius: 4px; box-shadow: 0 2px 8px #0003; display: none;
  font-size: 13px; font-weight: 400; left: 0; line-height: 1.4; padding: .5rem .7rem; position: absolute; top: 100%; width: min(22rem, 100%); z-index: 5; }
.lively .term:not(.put-away):is(:hover, :focus-within) [role=tooltip] { display: block; }
.lively .bars { display: flex; flex-wrap: wrap; font: 12px/1.7 ui-monospace, monospace; gap: 0 1.2em; } .lively .sounding { background: var(--lively-ink); color: var(--lively-paper); }
@media print { .lively .controls { display: none; } }
`;

/** An element with attributes; `on…` ones are listeners: make("button", { onclick }, "Play"). */
export function make(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function draw(tag, attributes = {}, ...children) {
  return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function dress(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Make el the ground of a figure: style sheet, accessible name, caption. Every render begins with it. */
export function ground(el, model) {
  if (!document.querySelector("style[data-lively]")) document.head.append(make("style", { "data-lively": true }, SHEET));
  el.classList.add("lively");
  const caption = model.get("caption");
  return dress(el, { role: "group", "aria-label": model.get("alt") }, caption ? [make("p", { class: "caption" }, caption)] : []);
}

/** Show a figure on a page without a kernel, in the first place of that key that is still empty. */
export function mount(render, key, state) {
  const place = document.querySelector(`[data-figure="${key}"]:not([data-alive])`), heard = {};
  const model = {
    get: (name) => state[name],
    set: (name, value) => ((state[name] = value), heard[`change:${name}`]?.forEach((call) => call())),
    on: (event, call) => (heard[event] ??= []).push(call),
    save_changes() {},
  };
  place.setAttribute("data-alive", "");
  render({ model, el: place.appendChild(make("div")) });
}

/** What a trait may be: for `share`. */
export const within = (min, max) => ({ may: `a number from ${min} to ${+max.toPrecision(4)}`, test: (v) => typeof v === "number" && v >= min && v <= max });
export const whole = (min, max) => ({ may: `a whole number from ${min} to ${max}`, test: (v) => Number.isInteger(v) && v >= min && v <= max });
export const among = (values) => ({ may: `one of ${values.join(", ")}`, test: (v) => values.includes(v) });
export const each = (kinds) => ({ may: `a list of ${kinds.length}: ${[...new Set(kinds.map(({ may }) => may))].join(", ")}`, test: (v) => Array.isArray(v) && v.length === kinds.length && kinds.every(({ test }, i) => test(v[i])) });

// Share a figure with Python. `traits`: those that move it and those it computes, in words. `moves`: what each of the former may be,
// its value now, and how to move it. A value that may not be is put back, and the figure says why.
/** Gives publish(values, pause): Python hears at once or, with a pause, at most once in so many milliseconds. */
export function share(el, model, traits, moves) {
  const refusal = make("p", { class: "refusal", role: "alert" }), json = JSON.stringify;
  const known = (names, among) => names.forEach((name) => {
    if (!(name in among)) throw new Error(`${name} is not declared among the traits of this figure`);
  });
  let news = {}, timer = null, last = -Infinity;
  const send = () => {
    timer = clearTimeout(timer);
    last = performance.now();
    for (const [name, value] of Object.entries(news)) model.set(name, value);
    news = {};
    model.save_changes();
  };
  const publish = (values, pause = 0) => {
    known(Object.keys(values), { ...traits.moves, ...traits.computes });
    Object.assign(news, values);
    const rest = last + pause - performance.now();
    if (rest <= 0) send();
    else timer ??= setTimeout(send, rest);
  };
  known(Object.keys(traits.moves), moves);
  known(Object.keys(moves), traits.moves);
  for (const [name, [{ may, test }, now, move]] of Object.entries(moves)) {
    const wrong = (value) => (test(value) ? "" : `${name} cannot be ${json(value)}: it is ${may}.`);
    if (wrong(now())) throw new Error(wrong(now()));
    model.on(`change:${name}`, () => {
      const value = model.get(name);
      if (json(value) === json(now())) return;
      refusal.textContent = wrong(value);
      if (test(value)) move(value);
      // later: while it tells of a change, a model takes the old value for no change
      else setTimeout(() => publish({ [name]: now() }));
    });
  }
  el.append(refusal);
  return publish;
}

export const button = (text, onclick, attributes = {}) => make("button", { type: "button", onclick, ...attributes }, text);

/** A labelled slider; `show` turns its number into words. Set `.input.value` and call `.refresh()` to move it by program. */
export function slider(name, { min = 0, max = 1, step = 0.01, value = min, show = String }, oninput) {
  const input = make("input", { type: "range", min, max, step, value }), words = make("span");
  const node = make("label", { class: "slider" }, make("span", { class: "name" }, `${name} `, words), input);
  const refresh = () => {
    words.textContent = show(+input.value);
    input.setAttribute("aria-valuetext", words.textContent);
  };
  input.addEventListener("input", () => (refresh(), oninput(+input.value)));
  refresh();
  return Object.assign(node, { input, refresh });
}

/** A labelled drop-down; `options` maps values to texts. */
export function select(name, options, value, onchange) {
  const entries = Object.entries(options).map(([key, text]) => make("option", { value: key, selected: key === value }, text));
  const input = make("select", { onchange: () => onchange(input.value) }, ...entries);
  return Object.assign(make("label", {}, make("span", { class: "name" }, name), input), { input });
}

/** Radio buttons side by side; `options` maps values to texts, `accents` values to CSS colours; `.set(value)` moves it by program. */
export function choice(name, options, value, onchange, accents = {}) {
  const group = `choice-${choice.groups = (choice.groups ?? 0) + 1}`;
  const one = ([key, text]) => make("label", { class: "choice", style: accents[key] && `--accent: ${accents[key]}` },
    make("input", { type: "radio", name: group, value: key, checked: key === value, onchange: () => onchange(key) }), text);
  const node = make("fieldset", {}, make("legend", {}, name), ...Object.entries(options).map(one));
  const set = (key) => (node.querySelector(`[value="${key}"]`).checked = true);
  return Object.assign(node, { set });
}

/** A line for screen readers, told politely: const say = announcer(el); say("paused"). */
export function announcer(el) {
  const line = make("p", { class: "unseen", "aria-live": "polite" });
  el.append(line);
  return (text) => (line.textContent = text);
}

/** A word with its definition on a card, for hover, focus and touch; Escape puts the card away. It lies in the nearest `.defining` element. */
export function term(word, definition) {
  const id = `term-${(term.count = (term.count ?? 0) + 1)}`, node = make("span", { class: "term" });
  const again = () => node.classList.remove("put-away");
  dress(node, { onkeydown: ({ key }) => key === "Escape" && node.classList.add("put-away"), onpointerleave: again, onfocusout: again },
    [make("button", { type: "button", "aria-describedby": id }, word), make("span", { role: "tooltip", id }, definition)]);
  return node;
}

/** Bars for p upward and, unless `down` is null, q downward: lists of non-negative numbers, binned to at most `bins`, as high as their `power`. */
export function bars({ label, height = 64, up = "recognition", down = "generative", bins = 256, power = 1 }) {
  const paths = [up, down].map((name) => draw("path", { class: name, fill: "currentColor" }));
  const zero = draw("line", { x1: 0, x2: 1, y1: 0, y2: 0, stroke: "currentColor", opacity: 0.5 });
  const box = { viewBox: down ? "0 -1 1 2" : "0 -1 1 1", preserveAspectRatio: "none", style: `height: ${height}px` };
  const svg = draw("svg", { ...box, role: "img", "aria-label": label }, ...paths, zero);
  const shape = (p, sign, scale) => {
    const gap = p.length > 64 ? 0 : 0.12, width = 1 / p.length;
    let d = "";
    for (let k = 0; k < p.length; k++) {
      const tall = (p[k] / scale) ** power;
      if (tall < 0.004) continue;
      d += `M${((k + gap) * width).toFixed(5)} 0V${(-sign * tall).toFixed(4)}h${((1 - 2 * gap) * width).toFixed(5)}V0z`;
    }
    return d;
  };
  const update = (p, q = [], scale = 0) => {
    const both = [binned(p, bins), binned(q, bins)];
    const most = scale || Math.max(...both[0], ...both[1]) || 1;
    paths.forEach((path, i) => path.setAttribute("d", shape(both[i], 1 - 2 * i, most)));
  };
  return { node: make("div", { class: "plot" }, svg), svg, update };
}

/** Sums over runs of neighbours, so that at most so many numbers remain. */
export function binned(p, bins = 256) {
  if (p.length <= bins) return p;
  const sums = new Float64Array(bins), run = p.length / bins;
  for (let k = 0; k < p.length; k++) sums[Math.floor(k / run)] += p[k];
  return sums;
}

/** Curves over a common x, named at their right ends: update(x, [y, …], { xmax, ymax, spans: [[from, to, colour], …], at }). */
// The names tell the values at the last moment, or at the one whose index is `at`, where a line then stands.
export function lines({ label, series, height = 110, xlabel = String, digits = 2, unit = "nats", right = 92 }) {
  const paths = series.map(({ color }) => draw("path", { fill: "none", stroke: color, "stroke-width": 1.6, "stroke-linejoin": "round" }));
  const word = (style) => make("span", { style });
  const names = series.map(({ color }) => word(`color: ${color}; left: calc(100% - ${right - 6}px)`));
  const cursor = draw("line", { y1: 0, y2: 1, stroke: "currentColor", visibility: "hidden" });
  const shades = draw("g"), frame = draw("path", { d: "M0 0H1M0 1H1", stroke: "var(--lively-rule)" });
  const box = { viewBox: "0 0 1 1", preserveAspectRatio: "none", style: `height: ${height}px; width: calc(100% - ${right}px)` };
  const svg = draw("svg", { ...box, role: "img", "aria-label": label }, shades, frame, ...paths, cursor);
  const below = `top: ${height + 4}px; opacity: .7`, [first, last, top] = [`left: 0; ${below}`, `right: ${right}px; ${below}`, "left: 2px; top: 3px; opacity: .7"].map(word);
  const node = make("div", { class: "plot", style: "padding-bottom: 18px" }, svg, first, last, top, ...names);
  const update = (x, ys, { xmax = x.at(-1) || 1, ymax = ceiling(Math.max(...ys.flat().filter(Number.isFinite))), spans = [], at: moment = x.length - 1 } = {}) => {
    [first.textContent, last.textContent, top.textContent] = ["0", xlabel(xmax), `${ymax} ${unit}`];
    const shade = ([a, b, fill]) => draw("rect", { x: a / xmax, width: Math.max(0, b - a) / xmax, height: 1, fill, opacity: 0.12 });
    shades.replaceChildren(...spans.map(shade));
    const at = (y) => (Number.isFinite(y) ? 1 - Math.min(y, ymax) / ymax : 0);
    ys.forEach((y, i) => paths[i].setAttribute("d", y.map((v, k) => `${k ? "L" : "M"}${(x[k] / xmax).toFixed(4)} ${at(v).toFixed(4)}`).join("")));
    const here = x[moment] / xmax;
    dress(cursor, { x1: here, x2: here, visibility: moment < x.length - 1 ? "visible" : "hidden" }, []);
    const places = spread(ys.map((y) => at(y[moment]) * height), 12, height);
    names.forEach((name, i) => {
      name.textContent = `${series[i].name} ${ys[i][moment]?.toFixed(digits) ?? ""}`;
      name.style.top = `${places[i] - 6}px`;
    });
  };
  return { node, svg, update };
}

/** Move places apart until they keep a distance, in order, within 0 … height. */
function spread(places, distance, height) {
  const order = places.map((_, i) => i).sort((a, b) => places[a] - places[b]), out = [...places];
  for (let k = 1; k < order.length; k++) out[order[k]] = Math.max(out[order[k]], out[order[k - 1]] + distance);
  let limit = height;
  for (let k = order.length - 1; k >= 0; k--, limit -= distance) out[order[k]] = Math.min(out[order[k]], limit);
  return out;
}

/** The next round number: 1, 2 or 5 times a power of ten. */
export function ceiling(y) {
  if (!(y > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(y));
  return +([1, 2, 5, 10].find((m) => m * power >= y * 0.999) * power).toPrecision(2);
}

/** Whether the reader asked for less motion. */
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Call with whether el can be seen (in view, in a tab that is not hidden) whenever that changes; returns what ends it. */
export function watchSeen(el, call) {
  let inView = false, seen = false;
  const look = () => {
    if (seen === (inView && !document.hidden)) return;
    call((seen = !seen));
  };
  const watch = new IntersectionObserver((entries) => ((inView = entries.at(-1).isIntersecting), look()), { rootMargin: "40px" });
  watch.observe(el);
  document.addEventListener("visibilitychange", look);
  return () => (watch.disconnect(), document.removeEventListener("visibilitychange", look));
}

/** A run as at most so many points { steps, … }, evenly thin, with the first and the latest: a function that adds one and gives them. */
export function timeline(most = 480) {
  let points = [], gap = 1;
  const thin = () => {
    gap = (2 * (points.at(-1).steps - points[0].steps)) / most;
    let kept = -Infinity;
    points = points.filter(({ steps }, i) => i === points.length - 1 || (steps - kept >= gap && ((kept = steps), true)));
  };
  return (point) => {
    if (points.length > 1 && points.at(-1).steps - points.at(-2).steps < gap) points.pop();
    points.push(point);
    if (points.length > most) thin();
    return points;
  };
}

/** The colours of the palette as they are now, for a canvas: colours(el).recognition. */
export function colours(el) {
  const style = getComputedStyle(el), names = ["recognition", "generative", "data", "paper", "ink", "faint", "rule"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--lively-${name}`).trim()]));
}

/** Call at every change of the page's theme; SVG in palette colours needs no such call. */
export function onTheme(call) {
  const watch = new MutationObserver(call), options = { attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light"] };
  [document.documentElement, document.body].forEach((node) => watch.observe(node, options));
}

/** A worker from functions and classes: `main` runs there, with `needed` by their names. Works from file://. */
export function worker(main, needed) {
  const address = URL.createObjectURL(new Blob([`"use strict";\n${needed.map(String).join("\n")}\n(${main})();`], { type: "text/javascript" }));
  return new Worker(address);
}

/** The numbers that Python's `packed` wrote: { shape, numbers }. */
export function unpacked({ shape, scale, data }) {
  const bytes = Int8Array.from(atob(data), (c) => c.charCodeAt(0));
  return { shape, numbers: Float32Array.from(bytes, (b) => b * scale) };
}
