// Step the machine: a small machine whose days and nights can be walked through, layer by layer and weight by weight.
import { among, announcer, button, choice, draw, ground, make, share, slider, watchSeen, whole } from "./kit.js";
import { Machine, Stream, Training, patterns, weightRows } from "./core.js";

const STYLE = `
.walk { display: grid; gap: .2rem 2rem; grid-template-columns: repeat(2, minmax(0, 1fr)); }
.walk .network { color: var(--colour); } .walk .title { color: var(--colour); text-align: center; }
.walk .title span { color: var(--lively-ink); font-weight: 400; }
.walk svg:focus-visible { outline: 2px solid var(--lively-recognition); outline-offset: 2px; }
.walk .weight { cursor: pointer; fill: none; stroke: currentColor; } .walk .hand { cursor: pointer; fill: none; stroke: transparent; stroke-width: 7; }
.walk .chosen { stroke: var(--lively-ink); } .walk .unit { fill: var(--lively-paper); stroke: var(--lively-ink); stroke-width: 1.2; }
.walk .unit.on { fill: var(--lively-ink); } .walk .unit.unknown { stroke-dasharray: 2 3; opacity: .5; } .walk .ring { fill: none; stroke: currentColor; stroke-width: 3; }
.walk text { fill: var(--lively-ink); font-size: 11px; opacity: .75; }
.walk-story { font-weight: 600; margin: .5rem 0 .2rem; min-height: 2.8em; } .walk-weight { font-variant-numeric: tabular-nums; margin: 0; min-height: 2.8em; }
@media (max-width: 560px) { .walk { grid-template-columns: minmax(0, 1fr); } .walk-weight { min-height: 4.2em; } }`;

const traits = {
  "moves": { "phase": "wake, sleep or both in turn", "running": "whether it plays", "speed": "steps a second, 1 to 20", "seed": "of the walk, which begins anew" },
  "computes": {
    "now": "the phase, and the layer that is being decided, or learn", "patterns": "of each layer, None where it is not decided yet",
    "probabilities": "that the units of each layer fired", "weights": "of both networks, rows for each layer, the bias last"
  }
};

const WIDTH = 320, HEIGHT = 210, RADIUS = 9;
const signed = (x, digits = 3) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits);

/** What happens at each step of a phase: the layer that is decided, or that everything learns. */
const moves = (phase, top) => [...Array.from({ length: top + 1 }, (_, k) => (phase === "wake" ? k : top - k)), "learn"];

function render({ model, el }) {
  const [sizes, words, lr, before, phases] = ["sizes", "words", "lr", "before", "phases"].map((name) => model.get(name));
  const top = sizes.length - 1, data = patterns(sizes[0], words), names = { wake: "awake", sleep: "asleep", both: "in turn" };
  let machine, stream, mode = model.get("phase") ?? phases[0], phase, move, known, changes, told = 0, chosen = null;
  let running = false, seen = false, timer = null, seed = model.get("seed"), pace = model.get("speed") ?? 2;
  ground(el, model);
  const say = announcer(el);
  const publish = share(el, model, traits, {
    phase: [among(phases), () => mode, (name) => walkBy(name)],
    running: [among([false, true]), () => running, (on) => play(on)],
    speed: [whole(1, 20), () => pace, (v) => walkAt(v)],
    seed: [whole(0, 2 ** 31 - 1), () => seed, (v) => ((seed = v), reset())],
  });
  const tell = () => publish({
    phase: mode, running, speed: pace, seed, now: [phase, moves(phase, top)[move]], weights: weightRows(machine),
    patterns: machine.z.map((z, l) => (known.has(l) ? [...z] : null)), probabilities: machine.p.map((p, l) => (known.has(l) ? [...p] : null)),
  }, running ? 300 : 0);

  // the walk
  const begin = () => {
    machine = new Machine(sizes);
    stream = new Stream(0, seed);
    new Training(machine, data, stream, { lr }).run(before);
    phase = mode === "sleep" ? "sleep" : "wake";
    [move, known, changes] = [-1, new Set(), null];
    moves(phase, top).forEach(next);
  };
  const next = () => {
    if (++move > top + 1) {
      if (mode === "both") phase = phase === "wake" ? "sleep" : "wake";
      [move, known] = [0, new Set()];
    }
    const layer = moves(phase, top)[move];
    changes = null;
    if (layer === "learn") return learn();
    if (phase === "wake" && layer === 0) {
      told = Math.floor(stream.fill(new Float64Array(1))[0] * words.length);
      machine.z[0].set(data.bits[told]);
      machine.list(0);
    } else {
      const [weights, from] = phase === "wake" ? [machine.recognition[layer - 1], layer - 1] : [machine.generative[layer], layer + 1];
      machine.predict(weights, from, layer);
      machine.decide(layer, stream);
    }
    known.add(layer);
  };
  const learn = () => {
    const blocks = phase === "wake" ? machine.generative : machine.recognition, old = blocks.map((w) => w.slice());
    const expected = blocks.map((w, l) => (machine.predict(w, ...(phase === "wake" ? [l + 1, l] : [l, l + 1])), machine.p[phase === "wake" ? l : l + 1].slice()));
    if (phase === "wake") machine.learnGenerative(lr);
    else machine.learnRecognition(lr);
    changes = { expected, by: blocks.map((w, l) => w.map((x, i) => x - old[l][i])) };
  };
  const story = () => {
    const layer = moves(phase, top)[move];
    if (layer === "learn") return phase === "wake"
      ? "Generation learns: what it expected below (the rings), given what is above, moves towards what is there."
      : "Recognition learns: what it guessed above (the rings), given what is below, moves towards what is there.";
    if (phase === "wake") return layer === 0 ? `By day: the rhythm ${[...data.bits[told]].join("")} enters at layer 0.` : `Recognition gives each unit of layer ${layer} a probability (the ring), and it tosses its coin.`;
    return layer === top ? "By night: the top units toss the coins of the prior." : `Generation gives each unit of layer ${layer} a probability (the ring), and it tosses its coin.`;
  };

  // the drawing
  const place = (l, j) => [(WIDTH * (j + 0.5)) / sizes[l], HEIGHT - 16 - (l * (HEIGHT - 62)) / top];
  const network = (kind) => {
    const up = kind === "recognition", weights = [], units = [];
    const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: 0, "aria-label": `the ${kind} network: arrow keys walk through its weights` });
    const add = (l, i, j, a, b) => {
      const bend = up ? -10 : 10, d = `M${a}Q${(a[0] + b[0]) / 2 + bend} ${(a[1] + b[1]) / 2} ${b}`;
      const line = draw("path", { d, class: "weight" }), weight = { kind, l, i, j, line };
      svg.append(line, draw("path", { d, class: "hand", onpointerenter: () => choose(weight), onpointerdown: () => choose(weight) }));
      weights.push(weight);
    };
    for (let l = 0; l <= top; l++) for (let j = 0; j < sizes[l]; j++) {
      if (up && l < top) for (let k = 0; k < sizes[l + 1]; k++) add(l, j, k, place(l, j), place(l + 1, k));
      if (!up && l < top) for (let k = 0; k < sizes[l + 1]; k++) add(l, k, j, place(l + 1, k), place(l, j));
      if (!up && l === top) add(l, 0, j, [place(l, j)[0], 8], place(l, j));
    }
    sizes.forEach((n, l) => units.push(Array.from({ length: n }, (_, j) => {
      const [cx, cy] = place(l, j), around = 2 * Math.PI * (RADIUS + 3);
      const ring = draw("circle", { cx, cy, r: RADIUS + 3, class: "ring", transform: `rotate(-90 ${cx} ${cy})` }), unit = draw("circle", { cx, cy, r: RADIUS });
      svg.append(ring, unit);
      return { unit, fill: (p) => ring.setAttribute("stroke-dasharray", `${p * around} ${around}`) };
    })));
    svg.append(...sizes.map((_, l) => draw("text", { x: 0, y: place(l, 0)[1] + 4 }, l === top ? `layer ${l}` : l)), ...(up ? [] : [draw("text", { x: 0, y: 12 }, "prior")]));
    svg.addEventListener("keydown", (event) => {
      const turn = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!turn) return;
      event.preventDefault();
      choose(weights.at((weights.indexOf(chosen) + turn) % weights.length), true);
    });
    const role = make("span"), node = make("div", { class: "network", style: `--colour: var(--lively-${kind})` }, make("div", { class: "title" }, `${kind}: ${up ? "upward" : "downward"} `, role), svg);
    return { kind, node, svg, weights, units, role };
  };
  const networks = [network("recognition"), network("generative")], plot = make("p", { class: "walk-story" }), about = make("p", { class: "walk-weight" });
  const index = ({ l, i, j, kind }) => i * (kind === "recognition" ? sizes[l + 1] : sizes[l]) + j;
  const value = (weight) => machine[weight.kind][weight.l][index(weight)];
  const input = ({ kind, l, i }) => (kind === "recognition" ? machine.z[l][i] : l === top ? 1 : machine.z[l + 1][i]);

  const mostChanged = () => {
    const size = (w) => Math.abs(changes.by[w.l][index(w)]);
    return networks[phase === "wake" ? 1 : 0].weights.reduce((a, b) => (size(b) > size(a) ? b : a));
  };
  const show = () => {
    chosen ??= mostChanged();
    const layer = moves(phase, top)[move], teacher = phase === "wake" ? "recognition" : "generative";
    for (const { kind, weights, units, role } of networks) {
      const acts = kind === teacher, largest = Math.max(1, ...weights.map((w) => Math.abs(value(w))));
      role.textContent = acts ? "(the teacher)" : "(the pupil)";
      for (const weight of weights) {
        const w = value(weight), target = kind === "recognition" ? weight.l + 1 : weight.l;
        const busy = layer === "learn" ? !acts && changes.by[weight.l][index(weight)] !== 0 : acts && target === layer && input(weight) === 1 && known.size > 0;
        weight.line.setAttribute("stroke-width", 0.4 + (4 * Math.abs(w)) / largest);
        weight.line.setAttribute("stroke-dasharray", w < 0 ? "4 3" : "none");
        weight.line.setAttribute("opacity", busy ? 1 : 0.16);
        weight.line.classList.toggle("chosen", weight === chosen);
      }
      units.forEach((row, l) => row.forEach(({ unit, fill }, j) => {
        unit.setAttribute("class", `unit ${!known.has(l) ? "unknown" : machine.z[l][j] ? "on" : ""}`);
        const block = phase === "wake" ? l : l - 1, expects = layer === "learn" && !acts && changes.expected[block];
        fill(expects ? expects[j] : acts && l === layer && !(phase === "wake" && l === 0) ? machine.p[l][j] : 0);
      }));
    }
    plot.textContent = story();
    describe();
    tell();
  };
  const describe = () => {
    const { kind, l, i, j } = chosen, up = kind === "recognition", target = up ? l + 1 : l;
    const from = !up && l === top ? "the prior" : `unit ${i + 1} of layer ${up ? l : l + 1}`;
    let text = `${up ? "Recognition" : "Generation"}, from ${from} to unit ${j + 1} of layer ${target}: weight ${signed(value(chosen))}. `;
    const by = changes?.by[l]?.[index(chosen)], learns = changes && up === (phase === "sleep");
    if (!learns) text += changes ? "Its network is the teacher now, and does not learn." : "It changes when its network learns.";
    else text += `It has just changed by ${signed(by)} = ${lr} × (${machine.z[target][j]} − ${changes.expected[l][j].toFixed(3)}) × ${input(chosen)}: learning rate × (what was − what was expected) × what its input was.`;
    about.textContent = text;
    return text;
  };
  const choose = (weight, aloud) => {
    chosen = weight;
    networks.forEach(({ weights }) => weights.forEach((w) => w.line.classList.toggle("chosen", w === weight)));
    const text = describe();
    if (aloud) say(text);
  };

  // what the hand does; it plays while it can be seen
  const tick = () => {
    clearInterval(timer);
    timer = running && seen ? setInterval(() => (next(), show()), 1000 / pace) : null;
  };
  function play(on) {
    running = on;
    player.textContent = on ? "Pause" : "Play";
    tick();
    tell();
  }
  const pause = () => running && play(false);
  const step = () => (pause(), next(), show(), say(story()));
  const player = button("Play", () => play(!running), { class: "primary" }), stepper = button("Step", step);
  const many = { wake: "1000 days", sleep: "1000 nights", both: "1000 phases" }, thousand = button(many[mode], () => {
    pause();
    for (let k = 0; k < 1000 * (top + 2); k++) next();
    show();
  });
  function reset() {
    pause();
    chosen = null;
    begin();
    show();
  }
  const resetter = button("Reset", reset);
  function walkAt(v) {
    pace = faster.input.value = v;
    faster.refresh();
    tick();
    tell();
  }
  const faster = slider("speed", { min: 1, max: 20, step: 1, value: pace, show: (v) => `${v} steps/s` }, walkAt);
  function walkBy(name) {
    mode = name;
    control.forEach((node) => node.set(name));
    thousand.textContent = many[name];
    reset();
  }
  const options = Object.fromEntries(phases.map((name) => [name, names[name]]));
  const control = phases.length > 1 ? [choice("the machine is", options, mode, walkBy)] : [];
  el.append(
    make("style", {}, STYLE),
    make("div", { class: "controls" }, ...control, make("div", { class: "together" }, player, stepper, thousand, resetter), faster),
    make("div", { class: "walk" }, ...networks.map(({ node }) => node)),
    plot,
    about,
  );
  begin();
  show();
  const unwatch = watchSeen(el, (now) => ((seen = now), tick()));
  return () => (unwatch(), clearInterval(timer));
}

export default { render };
