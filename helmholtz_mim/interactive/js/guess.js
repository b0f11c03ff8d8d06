// Guess, then see: what is the entropy of each layer after training? The reader's guess first, then the truth.
import { among, announcer, button, draw, each, ground, make, share, within } from "./kit.js";

const STYLE = `
.guess .layer { align-items: center; display: grid; gap: .1rem .9rem; grid-template: "name row words" / 8rem minmax(0, 1fr) 8.6rem; margin-bottom: .3rem; }
.guess .name { grid-area: name; } .guess .row { grid-area: row; } .guess output { grid-area: words; }
.guess { margin-bottom: .5rem; } .guess .name { font-size: 13px; opacity: 1; } .guess output { font-size: 13px; line-height: 1.25; min-height: 2.5em; align-content: center; }
.guess .row { border-radius: 3px; cursor: ew-resize; position: relative; touch-action: pan-y; } .guess .row.still { cursor: default; }
.guess .row:has(:focus-visible) { outline: 2px solid var(--lively-recognition); outline-offset: 2px; } .guess .row input { display: block; height: 1px; inset: 50% auto auto 0; margin: 0; opacity: 0; pointer-events: none; position: absolute; width: 100%; }
.guess .room { fill: var(--lively-faint); stroke: var(--lively-rule); } .guess .mine { fill: var(--lively-ink); fill-opacity: .22; }
.guess .edge { stroke: var(--lively-ink); stroke-width: 3; } .guess .grip { fill: var(--lively-ink); } .guess .still :is(.edge, .grip) { opacity: .4; } .guess .fixed { fill: var(--lively-data); }
.guess .truth { fill: var(--lively-recognition); } .guess .seed { stroke: var(--lively-ink); stroke-width: 1.2; }
.guess .hidden { visibility: hidden; } .guess-verdict { margin: 0 0 .7rem; min-height: 4.2em; }
@media (max-width: 640px) { .guess .layer { grid-template: "name words" "row row" / max-content minmax(0, 1fr); } .guess output { min-height: 1.3em; text-align: right; } .guess-verdict { min-height: 7em; } }`;

const traits = {
  "moves": { "guesses": "the entropy of each hidden layer, nats", "revealed": "whether the truth is shown" },
  "computes": { "truth": "mean entropy of each hidden layer, nats, once revealed", "scores": "guess minus truth, nats, once revealed" }
};

const WIDTH = 500, HEIGHT = 34;
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const list = (names) => (names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0]);

function render({ model, el }) {
  const sizes = model.get("sizes"), entropies = model.get("entropies"), top = sizes.length - 1;
  const most = sizes.map((n) => n * Math.LN2), truth = entropies.map(mean), guesses = [truth[0], ...(model.get("guesses") ?? most.slice(1))];
  let revealed = model.get("revealed") ?? false;
  ground(el, model);
  const say = announcer(el);
  const publish = share(el, model, traits, {
    guesses: [each(most.slice(1).map((nats) => within(0, nats))), () => guesses.slice(1), (some) => (guesses.splice(1, top, ...some), show())],
    revealed: [among([false, true]), () => revealed, (now) => reveal(now)],
  });
  const scale = (nats) => (WIDTH * nats) / Math.max(...most);

  const rows = sizes.map((n, l) => {
    const fixed = l === 0, mine = draw("rect", { y: 0, height: HEIGHT, class: fixed ? "fixed" : "mine" }), words = make("output", {});
    const edge = draw("line", { y1: 0, y2: HEIGHT, class: "edge" }), grip = draw("circle", { cy: HEIGHT / 2, r: 6, class: "grip" });
    const found = draw("g", { class: "hidden" }, draw("rect", { y: 9, height: HEIGHT - 18, width: scale(truth[l]), class: "truth" }), ...entropies[l].map((h) => draw("line", { x1: scale(h), x2: scale(h), y1: 5, y2: HEIGHT - 5, class: "seed" })));
    const svg = draw("svg", { viewBox: `-3 -1 ${WIDTH + 10} ${HEIGHT + 2}`, role: "img", "aria-label": `layer ${l}, up to ${most[l].toFixed(2)} nats` }, draw("rect", { height: HEIGHT, width: scale(most[l]), class: "room" }), mine, ...(fixed ? [] : [found, edge, grip]));
    const input = make("input", { type: "range", min: 0, max: most[l].toFixed(2), step: 0.01, "aria-label": `entropy of layer ${l}, nats`, oninput: () => set(l, +input.value) });
    const row = make("div", { class: fixed ? "row still" : "row" }, svg, ...(fixed ? [] : [input]));
    const drag = (event) => set(l, ((new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x) * most[l]) / scale(most[l]));
    if (!fixed) {
      row.addEventListener("pointerdown", (event) => {
        if (revealed) return;
        event.preventDefault();
        row.setPointerCapture(event.pointerId);
        input.focus({ focusVisible: false });
        drag(event);
      });
      row.addEventListener("pointermove", (event) => row.hasPointerCapture(event.pointerId) && drag(event));
    }
    const show = () => {
      const value = fixed ? truth[0] : guesses[l];
      mine.setAttribute("width", scale(value));
      for (const name of ["x1", "x2"]) edge.setAttribute(name, scale(value));
      grip.setAttribute("cx", scale(value));
      found.classList.toggle("hidden", !revealed);
      row.classList.toggle("still", fixed || revealed);
      input.disabled = revealed;
      input.value = value;
      input.setAttribute("aria-valuetext", `${value.toFixed(2)} of ${most[l].toFixed(2)} nats`);
      words.textContent = fixed ? `${value.toFixed(2)} of ${most[l].toFixed(2)} nats` : revealed ? `guess ${value.toFixed(2)}, truth ${truth[l].toFixed(2)} of ${most[l].toFixed(2)}` : `${value.toFixed(2)} of ${most[l].toFixed(2)} nats`;
    };
    return { show, node: make("div", { class: "layer" }, make("span", { class: "name" }, fixed ? "layer 0: the data" : `layer ${l}: ${n} units`), row, words) };
  });

  const verdict = make("p", { class: "guess-verdict" });
  const judge = () => {
    const dead = sizes.map((_, l) => l).filter((l) => l && truth[l] < 0.15 * most[l]), sum = (values) => dead.reduce((total, l) => total + values[l], 0);
    const off = mean(truth.slice(1).map((h, l) => Math.abs(h - guesses[l + 1]))), share = sum(guesses) / sum(most);
    const start = `Your guesses are off by ${off.toFixed(2)} nats on average. `;
    if (!dead.length) return start;
    const hope = share > 0.5 ? "Most of what you expected is not there" : share > 0.15 ? "You were warned, and still too hopeful" : "You saw it coming";
    return `${start}${hope}: layers ${list(dead)} can hold ${sum(most).toFixed(1)} nats together, you gave them ${sum(guesses).toFixed(1)}, and the ${entropies[0].length} machines have ${sum(truth).toFixed(1)}. These layers have collapsed.`;
  };
  const ask = `Each bar is as long as the entropy that a layer can hold, units × ln 2. The data have ${truth[0].toFixed(2)} nats. How much of that is left in the layers above, once wake-sleep has learned? Drag each bar to your guess.`;
  const show = () => {
    rows.forEach((row) => row.show());
    verdict.textContent = revealed ? judge() : ask;
    revealer.textContent = revealed ? "Guess again" : "Reveal";
    const hidden = guesses.slice(1), known = truth.slice(1);
    publish({ guesses: hidden, revealed, truth: revealed ? known : null, scores: revealed ? hidden.map((guess, l) => guess - known[l]) : null });
  };
  function set(l, value) {
    if (revealed) return;
    guesses[l] = Math.min(most[l], Math.max(0, value));
    show();
  }
  function reveal(now) {
    revealed = now;
    show();
    say(verdict.textContent);
  }
  const revealer = button("Reveal", () => reveal(!revealed), { class: "primary" });

  el.append(make("style", {}, STYLE), verdict, make("div", { class: "guess" }, ...rows.map((row) => row.node).reverse()), make("div", { class: "controls" }, revealer));
  show();
}

export default { render };
