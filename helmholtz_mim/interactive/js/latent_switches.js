// Latent switches: the bits of the top layer by hand, and what the layers below make of them, on the way down to a picture.
import { among, announcer, button, calm, choice, draw, each, ground, make, share, unpacked, whole } from "./kit.js";
import { Machine, Stream } from "./core.js";

const STYLE = `
.switches { display: grid; gap: .15rem 1rem; grid-template-columns: 9.5rem minmax(0, 1fr); align-items: center; max-width: 640px; }
.switches .name, .switches-pictures .name { font-size: 12px; opacity: .8; } .switches-tops { display: flex; gap: 2px; }
.switches .switch { cursor: pointer; flex: 1 1 0; margin: 0; max-width: 3.4rem; min-width: 0; position: relative; text-align: center; }
.switches .switch input { appearance: none; background: var(--lively-paper); border: 1.5px solid var(--lively-ink); border-radius: 50%; cursor: pointer; display: block; height: 26px; margin: 2px auto; width: 26px; }
.switches .switch input:checked { background: var(--lively-ink); } .switches .switch input:hover { border-width: 3px; }
.switches .switch span { display: block; font-size: 11px; font-variant-numeric: tabular-nums; line-height: 1.2; opacity: .75; }
.switches .touched span { font-weight: 700; opacity: 1; text-decoration: underline; }
.switches .p { fill: var(--lively-generative); } .switches .cell, .switches-pictures .frame { fill: none; stroke: var(--lively-rule); stroke-width: 1; vector-effect: non-scaling-stroke; }
.switches .bit, .switches-pictures .bit { fill: var(--lively-ink); } .switches .changed { stroke: var(--lively-recognition); stroke-width: 2.5; }
.switches-pictures { display: flex; gap: 1rem 1.6rem; margin: .7rem 0 0; }
.switches-pictures figure { flex: 1 1 0; margin: 0; max-width: 170px; min-width: 0; text-align: center; } .switches-pictures .name { display: block; min-height: 2.8em; }
.switches-words { font-variant-numeric: tabular-nums; margin: .5rem 0 0; min-height: 2.8em; }
@media (max-width: 560px) { .switches { grid-template-columns: minmax(0, 1fr); } .switches-pictures { gap: .7rem; } .switches-words { min-height: 5.6em; } .switches-pictures .name { min-height: 4.2em; } }`;

const traits = {
  "moves": { "top": "the switches, 0 or 1 each", "machine": "the name of the one that dreams", "seed": "of the dream" },
  "computes": {
    "p": "probabilities of the units of each layer below, the picture first", "dream": "the picture, 0 or 1 a pixel",
    "mean": "of many dreams with these switches", "effect": "of the last switch on that mean"
  }
};

const DREAMS = 400; // behind every mean picture
const PAUSE = 350; // milliseconds a layer

function render({ model, el }) {
  const sizes = model.get("sizes"), stored = model.get("machines"), top = sizes.length - 1, pixels = sizes[0];
  const bits = Uint8Array.from(model.get("top")), names = Object.keys(stored);
  let name = model.get("machine") ?? names[0], seed = model.get("seed"), touched = 0, before = [], timers = [];
  ground(el, model);
  const say = announcer(el);
  const publish = share(el, model, traits, {
    top: [each([...bits].map(() => whole(0, 1))), () => [...bits], (some) => {
      touched = some.findIndex((bit, j) => bit !== bits[j]);
      bits.set(some);
      show(true);
    }],
    machine: [among(names), () => name, (key) => learnedBy(key)],
    seed: [whole(0, 2 ** 31 - 1), () => seed, (value) => ((seed = value), show(false, true))],
  });

  const machines = Object.fromEntries(names.map((key) => {
    const machine = new Machine(sizes);
    stored[key].forEach((block, l) => machine.generative[l].set(unpacked(block).numbers));
    return [key, machine];
  }));

  // dreams
  const down = (machine, held, stream) => {
    machine.z[top].set(held);
    machine.list(top);
    for (let l = top - 1; l >= 0; l--) {
      machine.predict(machine.generative[l], l + 1, l);
      machine.decide(l, stream);
    }
  };
  const mean = (machine, held) => {
    const stream = new Stream(1, 0), sum = new Float64Array(pixels);
    for (let k = 0; k < DREAMS; k++) {
      down(machine, held, stream);
      for (let i = 0; i < pixels; i++) sum[i] += machine.p[0][i] / DREAMS;
    }
    return sum;
  };
  const withBit = (unit, value) => bits.map((bit, j) => (j === unit ? value : bit));
  const toss = () => {
    const machine = machines[name];
    machine.predict(machine.generative[top], top + 1, top);
    machine.decide(top, new Stream(2, seed));
    bits.set(machine.z[top]);
  };

  /** How much a switch changes the mean picture, pixel by pixel. */
  const effect = (unit) => {
    const [on, off] = [1, 0].map((value) => mean(machines[name], withBit(unit, value))), difference = on.map((x, i) => x - off[i]);
    return { on, off, difference, ink: difference.reduce((sum, x) => sum + Math.abs(x), 0) };
  };
  const strongest = () => [...bits.keys()].map((unit) => [effect(unit).ink, unit]).reduce((a, b) => (b[0] > a[0] ? b : a))[1];

  // drawings
  const grid = (n, columns, label) => {
    const rows = Math.ceil(n / columns), size = 12, svg = draw("svg", { viewBox: `-1 -1 ${columns * size + 2} ${rows * size + 2}`, role: "img", "aria-label": label });
    const cells = Array.from({ length: n }, (_, j) => {
      const x = (j % columns) * size, y = Math.floor(j / columns) * size, at = { x, y, width: size, height: size };
      const p = draw("rect", { ...at, class: "p" }), cell = draw("rect", { ...at, class: "cell" }), bit = draw("circle", { cx: x + size / 2, cy: y + size / 2, r: size / 4, class: "bit" });
      svg.append(p, cell, bit);
      return { p, cell, bit };
    });
    let before = null;
    const update = (p, z, compare) => {
      cells.forEach((one, j) => {
        one.p.setAttribute("fill-opacity", (0.75 * p[j]).toFixed(3));
        one.bit.setAttribute("visibility", z[j] ? "visible" : "hidden");
        one.cell.classList.toggle("changed", Boolean(compare && before && before[j] !== z[j]));
      });
      const changed = compare && before ? before.reduce((count, b, j) => count + (b !== z[j]), 0) : 0;
      before = [...z];
      return changed;
    };
    const clear = () => cells.forEach(({ p, bit, cell }) => (p.setAttribute("fill-opacity", 0), bit.setAttribute("visibility", "hidden"), cell.classList.remove("changed")));
    return { svg, update, clear };
  };
  const side = Math.ceil(Math.sqrt(pixels)), columns = (n) => (n <= 64 ? Math.min(n, 16) : 40);
  const picture = (text, label) => {
    const svg = draw("svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": label, "shape-rendering": "crispEdges" });
    const dots = Array.from({ length: pixels }, (_, i) => svg.appendChild(draw("rect", { x: i % side, y: Math.floor(i / side), width: 1.02, height: 1.02, class: "bit" })));
    svg.append(draw("rect", { width: side, height: side, class: "frame" }));
    const words = make("span", { class: "name" }, text);
    const update = (values) => dots.forEach((dot, i) => {
      dot.setAttribute("fill-opacity", Math.min(1, (values.signed ? 2 : 1) * Math.abs(values[i])).toFixed(3));
      dot.style.fill = values.signed ? (values[i] < 0 ? "var(--lively-recognition)" : "var(--lively-generative)") : "";
    });
    return { node: make("figure", {}, svg, words), words, update };
  };
  const layers = sizes.slice(0, top).map((n, l) => (l ? grid(n, columns(n), `the units of layer ${l}`) : null));
  const one = picture("layer 0: this dream", "the picture of this dream"), many = picture(`mean of ${DREAMS} dreams with these switches`, "the mean picture"), what = picture("", "what the last switch adds and takes away");
  const inputs = [...bits].map((_, j) => make("input", { type: "checkbox", role: "switch", "aria-label": `switch ${j + 1}`, onchange: (event) => flip(j, event.target.checked) }));
  const rates = inputs.map(() => make("span")), labels = inputs.map((input, j) => make("label", { class: "switch" }, input, rates[j]));
  const words = make("p", { class: "switches-words" });

  const dream = () => (down(machines[name], bits, new Stream(0, seed)), machines[name]);
  /** Everything for the switches as they are; `compare`: mark what changed since the last drawing; `slowly`: layer by layer. */
  function show(compare = false, slowly = false) {
    timers.forEach(clearTimeout);
    const machine = dream(), p = machine.p.map((x) => [...x]), z = machine.z.map((x) => [...x]), changed = [];
    const paint = (l) => {
      if (l) changed[l] = layers[l].update(p[l], z[l], compare);
      else {
        changed[0] = before.reduce((count, bit, i) => count + (bit !== z[0][i]), 0);
        one.update((before = z[0]));
      }
    };
    inputs.forEach((input, j) => (input.checked = Boolean(bits[j])));
    labels.forEach((label, j) => label.classList.toggle("touched", j === touched));
    const prior = machine.generative[top];
    rates.forEach((rate, j) => (rate.textContent = (1 / (1 + Math.exp(-prior[j]))).toFixed(2)));
    const { on, off, difference, ink } = effect(touched), order = sizes.slice(0, top).map((_, l) => top - 1 - l);
    const rest = () => {
      const now = bits[touched] ? on : off;
      many.update(now);
      what.update(Object.assign(difference, { signed: true }));
      what.words.textContent = `what switch ${touched + 1} adds (orange) and takes away (blue)`;
      const flipped = changed.slice(1).map((count, l) => `${count} of the ${sizes[l + 1]} units of layer ${l + 1}`).reverse().join(", ");
      const effects = compare ? `The same random numbers now give ${flipped} (outlined) and ${changed[0]} of the ${pixels} pixels another value. ` : "";
      words.textContent = `Switch ${touched + 1} is ${bits[touched] ? "on" : "off"}. ${effects}In the mean picture it moves ${ink.toFixed(1)} of ${pixels} pixels of ink.`;
      if (compare) say(words.textContent);
      publish({ top: [...bits], machine: name, seed, p: p.slice(0, top), dream: z[0], mean: [...now], effect: [...difference] });
    };
    if (!slowly || calm()) {
      order.forEach(paint);
      return rest();
    }
    order.forEach((l) => (l ? layers[l].clear() : one.update(z[0].map(() => 0))));
    timers = order.map((l, k) => setTimeout(() => (paint(l), l || rest()), PAUSE * (k + 1)));
  }
  function flip(j, on) {
    bits[j] = on ? 1 : 0;
    touched = j;
    show(true);
  }

  const controls = [button("Dream again", () => ((seed += 1), show(false, true)), { class: "primary" }), button("Toss the switches", () => ((seed += 1), toss(), show(false, true)))];
  const learnedBy = (key) => {
    name = key;
    chosen.forEach((node) => node.set(key));
    show();
    say(words.textContent);
  };
  const chosen = names.length > 1 ? [choice("learned by", Object.fromEntries(names.map((key) => [key, key])), name, learnedBy)] : [];
  const heading = (text) => make("span", { class: "name" }, text);
  el.append(
    make("style", {}, STYLE),
    make("div", { class: "controls" }, ...chosen, make("div", { class: "together" }, ...controls)),
    make("div", { class: "switches" },
      heading(`layer ${top}: the switches, and how often the prior has them on`), make("div", { class: "switches-tops" }, ...labels),
      ...sizes.slice(1, top).map((_, l) => l + 1).reverse().flatMap((l) => [heading(`layer ${l}`), layers[l].svg])),
    make("div", { class: "switches-pictures" }, one.node, many.node, what.node),
    words,
  );
  touched = strongest();
  show();
}

export default { render };
