// The collapse lab: a machine that trains in the page, and whose layers can be watched dying and waking up.
import { among, announcer, bars, binned, button, calm, choice, ground, lines, make, select, share, slider, timeline, watchSeen, whole, within, worker } from "./kit.js";
import { Flip, FactorialMIM, Machine, Stream, Training, addProducts, conditionalEntropy, divergence, entropy, exactReport, listen, logits, patterns, push, sigmoid, table, teach, toss, upperHalf, weightRows } from "./core.js";

const STYLE = `
.lab { display: grid; gap: .4rem 2.2rem; grid-template-columns: minmax(0, 1.25fr) minmax(0, 1fr); }
.lab .layer { display: flex; font-size: 12px; justify-content: space-between; line-height: 1.3; margin-top: .35rem; }
.lab-status { display: flex; flex-wrap: wrap; font-variant-numeric: tabular-nums; gap: .1rem 1.4rem; justify-content: space-between; margin: 0 0 .5rem; min-height: 1.4em; }
.lab-status strong { font-weight: 600; }
@media (max-width: 640px) { .lab { grid-template-columns: minmax(0, 1fr); } .lab-status { min-height: 2.8em; } }`;

const traits = {
  "moves": {
    "scheme": "wake-sleep, flip or mim", "every": "the rule decides in every so many-th step", "lr": "learning rate",
    "speed": "a power of ten of steps a second, 0 to 5", "seed": "1 to 16; the machine begins anew", "running": "whether it trains"
  },
  "computes": {
    "steps": "days and nights so far", "weights": "of both networks, rows for each layer, the bias last",
    "H": "entropy of each layer in either direction, nats", "I": "information of neighbouring layers, nats",
    "KL": "KL(this direction ‖ the other) of each layer, nats; None if infinite", "dead": "layers that have collapsed",
    "history": "once it rests: steps, and entropy, information and divergence by recognition at each"
  }
};

const SCHEMES = { "wake-sleep": "wake-sleep", flip: "perturbation", mim: "MIM, factorial" };
const SPEEDS = Array.from({ length: 11 }, (_, i) => i / 2);
const count = (n) => Math.round(n).toLocaleString("en");

/** What runs in the worker: trains at a given rate, and reports at most every 40 ms. */
function engine() {
  const rules = { "wake-sleep": () => null, flip: () => new Flip(), mim: () => new FactorialMIM() };
  const FRAME = 40;
  let training, life, rate = 0, running = false, until = Infinity, debt = 0, before = 0, shown = 0, timer;

  const report = () => {
    const { up, down, H, I, KL, offSupport } = exactReport(training.machine, training.data);
    const { recognition, generative } = training.machine;
    const half = 2 ** (training.machine.sizes[0] - 1), from = training.data.words.every((word) => word >= half) ? half : 0;
    const visible = (p, l) => binned(l ? p : p.subarray(from));
    postMessage({ life, steps: training.steps, up: up.map(visible), down: down.map(visible), top: up.map((p) => p.reduce((a, b) => Math.max(a, b))), H, I, KL, offSupport, recognition, generative });
    shown = performance.now();
  };

  const tick = () => {
    const start = performance.now();
    // what it cannot do in time is let go
    debt = Math.min(debt + (rate * (start - before)) / 1000, Math.max(1, rate / 10), until - training.steps);
    before = start;
    for (let slice; debt >= 1 && performance.now() - start < FRAME; debt -= slice) training.run((slice = Math.min(Math.floor(debt), 500)));
    if (performance.now() - shown > FRAME) report();
    if (training.steps >= until) {
      running = false;
      report();
      postMessage({ life, done: true });
    } else timer = setTimeout(tick, debt >= 1 ? 0 : 20);
  };

  onmessage = ({ data: order }) => {
    clearTimeout(timer);
    const pausing = running && order.running === false;
    if (order.begin) {
      const { sizes, words, seed } = order.begin;
      life = order.begin.life;
      training = new Training(new Machine(sizes), patterns(sizes[0], words), new Stream(0, seed));
    }
    Object.assign(training, order.protocol);
    if (order.scheme) training.use(rules[order.scheme]());
    if (order.steps) training.run(order.steps);
    if (order.begin || "running" in order) (before = performance.now()), (debt = 0);
    rate = order.rate ?? rate;
    until = order.until ?? until;
    running = order.running ?? running;
    if (order.begin || order.steps || pausing) report();
    if (running) tick();
  };
}

function render({ model, el }) {
  const [sizes, words, first] = ["sizes", "words", "first"].map((name) => model.get(name));
  let [scheme, seed, speed, lr, every] = ["scheme", "seed", "speed", "lr", "every"].map((name) => model.get(name));
  let running = false, still = false, seen = false, begun = false, life = 0;
  let history, keep, spans, pace = { steps: 0, time: 0, rate: 0 }, latest;
  ground(el, model);
  const say = announcer(el);
  const publish = share(el, model, traits, {
    scheme: [among(Object.keys(SCHEMES)), () => scheme, (name) => use(name)],
    every: [whole(1, 1e6), () => every, (n) => send({ protocol: { every: (every = n) } })],
    lr: [within(0, 10), () => lr, (rate) => send({ protocol: { lr: (lr = rate) } })],
    speed: [among(SPEEDS), () => speed, (v) => goAt(v)],
    seed: [whole(1, 16), () => seed, (n) => growFrom(n)],
    running: [among([false, true]), () => running, (on) => play(on)],
  });
  const machinery = [upperHalf, Stream, sigmoid, listen, toss, teach, Machine, Flip, FactorialMIM, Training, patterns, logits, table, push, addProducts, entropy, divergence, conditionalEntropy, exactReport, binned];
  const trainer = worker(engine, machinery);

  // controls
  const speeds = (v) => (v >= 5 ? "as fast as it goes" : `${count(Math.round(10 ** v / 10 ** Math.floor(v)) * 10 ** Math.floor(v))} steps/s`);
  const rate = () => (speed >= 5 ? 1e9 : 10 ** speed);
  const faster = slider("speed", { min: 0, max: 5, step: 0.5, value: speed, show: speeds }, (v) => goAt(v));
  const schemes = choice("scheme", SCHEMES, scheme, (name) => (use(name), play(true)), Object.fromEntries(Object.keys(SCHEMES).map((s) => [s, `var(--${s})`])));
  const player = button("Play", () => play(!running), { class: "primary" });
  const stepper = button("One step", () => (play(false), trainer.postMessage({ steps: 1 })));
  const resetter = button("Reset", () => reset(false));
  const seeds = select("seed", Object.fromEntries(Array.from({ length: 16 }, (_, i) => [i + 1, i + 1])), String(seed), (s) => growFrom(+s));

  // drawings
  const top = sizes.length - 1, layerColour = (l) => `var(--layer-${l})`;
  const panels = sizes.map((n, l) => {
    const plot = bars({ label: `probability of each state of layer ${l}`, height: l ? 50 : 58, up: l ? "recognition" : "data" }), words = make("span");
    const name = l === 0 ? `layer 0: the data in grey` : `layer ${l}: ${n} units, ${count(2 ** n)} states`;
    return { ...plot, words, node: make("div", {}, make("div", { class: "layer" }, make("span", {}, name), words), plot.node) };
  });
  const layers = sizes.map((_, l) => l).slice(1), axis = (x) => (x < 1e4 ? `${count(x)} steps` : `${count(x / 1000)}k steps`);
  const H = lines({ label: "entropy of the hidden layers over training", series: layers.map((l) => ({ name: `layer ${l}`, color: layerColour(l) })), xlabel: axis, height: 92 });
  const I = lines({ label: "information between neighbouring layers over training", series: layers.map((l) => ({ name: `${l - 1} to ${l}`, color: layerColour(l) })), xlabel: axis, height: 92 });
  const KL = lines({ label: "divergence of the model from the data over training", series: [{ name: "", color: "var(--lively-generative)" }], xlabel: axis, height: 66 });
  const verdict = make("strong"), counter = make("span", { class: "counter" });
  const key = make("div", { class: "layer" }, make("span", { class: "recognition" }, "■ driven by the world"), make("span", { class: "generative" }, "■ driven by its dreams"));
  el.append(
    make("style", {}, STYLE),
    make("div", { class: "controls" }, schemes, make("div", { class: "together" }, player, stepper, resetter), make("div", { class: "together" }, faster, seeds)),
    make("p", { class: "lab-status" }, verdict, counter),
    make("div", { class: "lab" },
      make("div", {}, key, ...panels.map((panel) => panel.node).reverse()),
      make("div", {}, make("div", { class: "title" }, "entropy H of each layer"), H.node, make("div", { class: "title" }, "information I between neighbours"), I.node, make("div", { class: "title" }, "divergence KL(data ‖ model)"), KL.node)),
  );

  const collapsed = (r) => layers.filter((l) => r.top[l] > 0.9);
  const judge = (r) => {
    const dead = collapsed(r), names = dead.join(dead.length > 2 ? ", " : " and ");
    const text = !r.steps ? "Every coin is fair: nothing is known yet."
      : dead.length ? `${dead.length > 1 ? `Layers ${names} have` : `Layer ${names} has`} collapsed into one state.${scheme === "mim" || running ? "" : ` Choose MIM to wake ${dead.length > 1 ? "them" : "it"}.`}`
      : scheme === "mim" ? "Every layer is alive." : "No layer has collapsed (yet).";
    if (verdict.textContent !== text) say((verdict.textContent = text));
  };
  const show = (r) => {
    panels.forEach((panel, l) => {
      panel.update(r.up[l], r.down[l]);
      panel.words.textContent = l ? `H ${r.H.recognition[l].toFixed(2)} of ${(sizes[l] * Math.LN2).toFixed(2)}` : `${(100 * r.offSupport).toFixed(0)} % of dreams no rhythm`;
    });
    const x = history.map((h) => h.steps), over = (name, l) => history.map((h) => h[name][l]), options = { spans: coloured(r.steps) };
    H.update(x, layers.map((l) => over("H", l)), { ...options, ymax: 7 });
    I.update(x, layers.map((l) => over("I", l - 1)), options);
    KL.update(x, [over("KL", 0)], options);
    counter.textContent = `${count(r.steps)} days and nights` + (running && pace.rate ? `, ${count(pace.rate / 1000)}k a second` : "");
    judge(r);
  };
  const coloured = (end) => spans.map(([from, name], i) => [from, spans[i + 1]?.[0] ?? end, `var(--${name})`]);
  const record = (r) => {
    history = keep({ steps: r.steps, H: r.H.recognition, I: r.I.recognition, KL: [r.KL.recognition[0]] });
    const now = performance.now();
    if (now - pace.time > 500) pace = { steps: r.steps, time: now, rate: pace.time ? (1000 * (r.steps - pace.steps)) / (now - pace.time) : 0 };
  };

  trainer.onmessage = ({ data }) => {
    // of a machine that is gone
    if (data.life !== life) return;
    if (data.done) {
      play(false);
      show(latest);
      return tell();
    }
    record((latest = data));
    el.dataset.steps = data.steps;
    if (!still) show(data);
    tell();
  };
  const tell = () => {
    const { steps, H, I, KL, recognition, generative } = latest, weights = weightRows({ sizes, recognition, generative });
    const finite = ([way, values]) => [way, values.map((nats) => (Number.isFinite(nats) ? nats : null))];
    // a copy: a model sees no change in a list that it has
    const resting = running ? {} : { history: [...history] };
    publish({ steps, weights, H, I, KL: Object.fromEntries(Object.entries(KL).map(finite)), dead: collapsed(latest), ...resting }, running ? 300 : 0);
  };

  trainer.onerror = () => (verdict.textContent = "This browser does not let a page compute in the background.");

  // what the hand does
  const send = (order) => trainer.postMessage(order);
  function play(on) {
    running = on;
    begun = true;
    still = false;
    pace = { steps: 0, time: 0, rate: 0 };
    player.textContent = on ? "Pause" : "Play";
    send({ running: on && seen, rate: rate(), until: Infinity });
    publish({ running });
  }
  function use(name) {
    if (name === scheme) return;
    scheme = name;
    schemes.set(name);
    publish({ scheme });
    if (spans.at(-1)[1] !== name) spans.push([latest?.steps ?? 0, name]);
    send({ scheme });
  }
  function goAt(v) {
    speed = faster.input.value = v;
    faster.refresh();
    publish({ speed });
    send({ rate: rate() });
  }
  function growFrom(n) {
    seed = seeds.input.value = n;
    reset(true);
    publish({ seed });
  }
  function reset(again) {
    history = [];
    keep = timeline();
    spans = [[0, scheme]];
    latest = null;
    running = again;
    player.textContent = again ? "Pause" : "Play";
    send({ begin: { sizes, words, seed, life: ++life }, protocol: { lr, every }, scheme, running: again && seen, rate: rate(), until: Infinity });
    publish({ running });
  }
  const start = () => {
    play(true);
    still = calm();
    send({ until: first, rate: still ? 1e9 : rate() });
  };

  reset(false);
  const unwatch = watchSeen(el, (now) => {
    seen = now;
    if (seen && !begun) return start();
    pace = { steps: 0, time: 0, rate: 0 };
    if (running) send({ running: seen });
  });
  return () => (unwatch(), trainer.terminate());
}

export default { render };
