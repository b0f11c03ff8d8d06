// The collapse lab: a machine that trains in the page, and whose layers can be watched dying and waking up.
import { among, announcer, bars, button, calm, choice, ground, lines, make, select, share, slider, term, timeline, watchSeen, whole, within } from "./kit.js";
import { weightRows } from "./core.js";
import { addressed } from "./address.js";
import { asPython, cut, joined, parsed, stepOf, written } from "./schedule.js";
import { labWorker } from "./lab_worker.js";
import { nearest, scrubber, squeezed, stretched } from "./scrubber.js";
import { listener } from "./sound.js";
import { story } from "./story.js";

const STYLE = `
.lab { display: grid; gap: .4rem 2.2rem; grid-template-columns: minmax(0, 1.25fr) minmax(0, 1fr); }
.lab .layer { display: flex; font-size: 12px; justify-content: space-between; line-height: 1.3; margin-top: .35rem; }
.lab-status { display: flex; flex-wrap: wrap; font-variant-numeric: tabular-nums; gap: .1rem 1.4rem; justify-content: space-between; margin: 0 0 .5rem; min-height: 1.4em; }
.lab-status strong { font-weight: 600; }
.lab-more { margin: .5rem 0 0; } .lab-more pre { background: var(--lively-faint); border: 0; color: inherit; font-size: 12px; margin: .3rem 0; overflow-x: auto; padding: .6rem; }
.lab-more summary { cursor: pointer; min-height: 24px; } .lab-more p { margin: .3rem 0; } .lab-more a { color: var(--lively-recognition); }
.lab .moment { align-items: end; margin-top: .4rem; } .lab .scrubber { flex: 1 1 auto; min-width: 0; white-space: normal; } .lab .scrubber input { width: 100%; }
.heard p { display: flex; flex-wrap: wrap; gap: 0 1em; margin: 0; } .heard .name { flex: 0 0 13rem; }
.story ol { display: grid; gap: .35rem .8rem; grid-template-columns: repeat(3, minmax(0, 1fr)); list-style: none; margin: 0 0 .5rem; padding: 0; }
.story li { margin: 0; } .lively .story a { border: 1px solid var(--lively-rule); border-radius: 4px; color: inherit; display: block; font-size: 13px; height: 100%; line-height: 1.35; padding: .4rem .6rem; text-decoration: none; }
.lively .story a:hover { border-color: var(--lively-ink); } .lively .story a:focus-visible { outline: 2px solid var(--lively-recognition); outline-offset: 2px; }
.lively .story a[aria-current] { background: var(--lively-faint); border-color: var(--lively-ink); box-shadow: inset 0 3px var(--lively-ink); }
.story .together { align-items: center; margin-bottom: .8rem; } .story-place { font-size: 12px; opacity: .8; }
@media print { .story .together, .lab .moment, .lab-more { display: none; } }
@media (max-width: 900px) { .story ol { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 640px) { .story ol { grid-template-columns: minmax(0, 1fr); } .story li:not(.told) { display: none; } .lively .story a { font-size: 14px; min-height: 5.6em; } .heard .name { flex-basis: 100%; }
  .lab { grid-template-columns: minmax(0, 1fr); } .lab-status { min-height: 2.8em; } }`;

const traits = {
  "moves": {
    "scheme": "wake-sleep, flip or mim", "every": "the rule decides in one step of so many", "lr": "learning rate",
    "speed": "a power of ten of steps a second, 0 to 5", "seed": "1 to 16; the machine begins anew", "running": "whether it trains"
  },
  "computes": {
    "steps": "days and nights so far", "schedule": "scheme, steps, every and lr of each stretch so far", "shown": "the steps after which it is shown",
    "step": "of the story that it is in, from 1; 0: none", "weights": "of both networks, rows for each layer, the bias last",
    "H": "entropy of each layer in either direction, nats", "I": "information of neighbouring layers, nats",
    "KL": "KL(this direction ‖ the other) of each layer, nats; None if infinite", "dead": "layers that have collapsed",
    "history": "once it rests: steps, and entropy, information and divergence by recognition at each"
  }
};

const SCHEMES = { "wake-sleep": "wake-sleep", flip: "perturbation", mim: "MIM, factorial" };
const SPEEDS = Array.from({ length: 21 }, (_, i) => i / 4);
const count = (n) => Math.round(n).toLocaleString("en");

const CARDS = {
  H: "Entropy: how many states a layer uses, and how evenly. Nothing if it is always in the same state; greatest, units × ln 2, if all are equally likely.",
  I: "Mutual information: how much the state of one layer tells of the other's. Nothing if they know nothing of each other; at most either entropy.",
  KL: "Kullback-Leibler divergence: how much more surprising the data are to the model than they need be. Nothing only if both agree.",
  nats: "The unit of entropy, information and divergence if the logarithm is the natural one: a fair coin has ln 2 ≈ 0.69 nats.",
  bit: "The unit if the logarithm is to the base 2: a fair coin has one bit. One bit is 0.69 nats.",
  bars: "One scale for all layers: the square root of the probability, from 0 at the middle line to 1 at the edge. At most 64 bars a layer: neighbouring states of wider ones share a bar.",
};

function render({ model, el }) {
  const [sizes, words, streams, tunes, first] = ["sizes", "words", "streams", "tunes", "first"].map((name) => model.get(name));
  let [scheme, seed, speed, lr, every] = ["scheme", "seed", "speed", "lr", "every"].map((name) => model.get(name));
  const usual = { every, lr }, start = { seed, scheme };
  let total = 0;
  const steps = model.get("story").map((one) => ({ ...one, ...usual, until: (total += one.steps) }));
  let running = false, still = false, seen = false, begun = false, moved = false, life = 0, moment = null;
  let history, keep, pace = { steps: 0, time: 0, rate: 0 }, latest;
  // what has been lived, and the moment that is shown
  const lived = () => joined(latest?.lived ?? []), point = () => moment ?? latest, then = () => cut(lived(), point()?.steps ?? 0);
  const step = () => (latest ? stepOf(steps, latest.lived, usual) : -1);
  /** What an address says of such a schedule: that, and the seed if it is another. */
  const named = (stretches) => ({ ...(seed === start.seed ? {} : { seed }), schedule: written(joined(stretches), usual) || `${start.scheme}*0` });
  ground(el, model);
  const say = announcer(el);
  const publish = share(el, model, traits, {
    scheme: [among(Object.keys(SCHEMES)), () => scheme, (name) => use(name)],
    every: [whole(1, 1e6), () => every, (n) => ((every = n), freely())],
    lr: [within(0, 10), () => lr, (rate) => ((lr = rate), freely())],
    speed: [among(SPEEDS), () => speed, (v) => goAt(v)],
    seed: [whole(1, 16), () => seed, (n) => growFrom(n)],
    running: [among([false, true]), () => running, (on) => play(on)],
  });
  const address = addressed(el, "collapse_lab", (values) => goTo(values));
  const trainer = labWorker();

  // controls
  const speeds = (v) => (v >= 5 ? "as fast as it goes" : `${count(Math.round(10 ** v / 10 ** Math.floor(v)) * 10 ** Math.floor(v))} steps/s`);
  const rate = () => (speed >= 5 ? 1e9 : 10 ** speed);
  const faster = slider("speed", { min: 0, max: 5, step: 0.25, value: speed, show: speeds }, (v) => goAt(v));
  const schemes = choice("scheme", SCHEMES, scheme, (name) => (use(name), play(true)), Object.fromEntries(Object.keys(SCHEMES).map((s) => [s, `var(--${s})`])));
  const player = button("Play", () => play(!running), { class: "primary" });
  const stepper = button("One step", () => (past.back(), play(false), (moved = true), send({ steps: 1 })));
  const resetter = button("Reset", () => reset(false));
  const seeds = select("seed", Object.fromEntries(Array.from({ length: 16 }, (_, i) => [i + 1, i + 1])), String(seed), (s) => growFrom(+s));

  // drawings
  const top = sizes.length - 1, layerColour = (l) => `var(--layer-${l})`;
  const panels = sizes.map((n, l) => {
    const plot = bars({ label: `probability of each state of layer ${l}`, height: 60, power: 0.5, up: l ? "recognition" : "data" }), words = make("span");
    const name = l === 0 ? `layer 0: the data, in grey` : `layer ${l}: ${n} units, ${count(2 ** n)} states`;
    return { ...plot, words, node: make("div", {}, make("div", { class: "layer" }, make("span", {}, name), words), plot.node) };
  });
  const layers = sizes.map((_, l) => l).slice(1), axis = (x) => (x < 1e4 ? `${count(x)} steps` : `${count(x / 1000)}k steps`);
  const H = lines({ label: "entropy of the hidden layers over training", series: layers.map((l) => ({ name: `layer ${l}`, color: layerColour(l) })), xlabel: axis, height: 92 });
  const I = lines({ label: "information between neighbouring layers over training", series: layers.map((l) => ({ name: `${l - 1} to ${l}`, color: layerColour(l) })), xlabel: axis, height: 92 });
  const KL = lines({ label: "divergence of the model from the data over training", series: [{ name: "", color: "var(--lively-generative)" }], xlabel: axis, height: 66 });
  const verdict = make("strong"), counter = make("span", { class: "counter" });
  const key = make("div", { class: "layer" }, make("span", { class: "recognition" }, "■ driven by the world"), make("span", { class: "generative" }, "■ driven by its dreams"));
  const title = (...pieces) => make("div", { class: "title defining" }, ...pieces);
  const scales = make("div", { class: "layer title defining" }, make("span", {}, "height: ", term("√ probability", CARDS.bars)), make("span", {}, "H in ", term("nats", CARDS.nats), ", 0.69 a ", term("bit", CARDS.bit)));
  const past = scrubber((point) => `${count(point.steps)} steps, ${SCHEMES[point.scheme]}`, (one) => {
    moment = one;
    if (running && moment) play(false);
    if (latest) show(), tell();
  });
  const bits = (word, n) => Array.from({ length: n }, (_, j) => (word >> (n - 1 - j)) & 1);
  const ear = listener(() => {
    const { dreams, rhythms, tunes } = point().heard, barsOf = (pairs) => pairs.map(([word, state]) => ({ bits: bits(word, sizes[0]), state }));
    return [{ name: "its dreams", bars: barsOf(dreams) }, { name: "rhythms of its world", bars: barsOf(rhythms) }, { name: "bars of real jigs", bars: barsOf(tunes) }];
  }, say);
  const tale = story(steps, (k) => address.to(named(steps.slice(0, k + 1))), (k) => lead(k));
  const program = make("code"), link = make("a", {}, "a link to this state");
  el.append(
    make("style", {}, STYLE),
    ...(steps.length ? [tale.node] : []),
    make("div", { class: "controls" }, schemes, make("div", { class: "together" }, player, stepper, resetter, ear.button), make("div", { class: "together" }, faster, seeds)),
    make("p", { class: "lab-status" }, verdict, counter),
    make("div", { class: "lab" },
      make("div", {}, key, scales, ...panels.map((panel) => panel.node).reverse()),
      make("div", {}, title(term("entropy H", CARDS.H), " of each layer"), H.node,
        title(term("information I", CARDS.I), " between neighbours"), I.node, title("divergence ", term("KL", CARDS.KL), "(data ‖ model)"), KL.node, past.node)),
    ear.shown,
    make("details", { class: "lab-more" }, make("summary", {}, "this state in Python, and its address"), make("pre", { tabindex: 0 }, program),
      make("p", {}, "The random numbers are the same: a stretch that ends with a pass through the data gives this very machine, another one is rounded to whole passes. ", link)),
  );

  const collapsed = (r) => layers.filter((l) => r.top[l] > 0.9);
  const judge = (r) => {
    const dead = collapsed(r), names = dead.join(", ").replace(/, (\d)$/, " and $1"), many = dead.length > 1, gone = moment !== null;
    const lost = gone ? "had" : many ? "have" : "has";
    const text = !r.steps ? `Every coin ${gone ? "was" : "is"} fair: nothing ${gone ? "was" : "is"} known yet.`
      : dead.length ? `${many ? "Layers" : "Layer"} ${names} ${lost} collapsed into one state.${gone || r.scheme === "mim" || running ? "" : ` Choose MIM to wake ${many ? "them" : "it"}.`}`
      : r.scheme === "mim" ? `Every layer ${gone ? "was" : "is"} alive.` : `No layer ${gone ? "had" : "has"} collapsed (yet).`;
    if (verdict.textContent !== text) say((verdict.textContent = text));
  };
  function show() {
    const r = point(), [up, down] = moment ? [r.bars.up, r.bars.down].map((layers) => layers.map(stretched)) : [r.up, r.down];
    panels.forEach((panel, l) => {
      panel.update(up[l], down[l], 1);
      panel.words.textContent = l ? `H ${r.H[l].toFixed(2)} of ${(sizes[l] * Math.LN2).toFixed(2)}` : `${(100 * r.offSupport).toFixed(0)} % of dreams no rhythm`;
    });
    const x = history.map((h) => h.steps), over = (name, l) => history.map((h) => h[name][l]), options = { spans: coloured(), at: moment ? nearest(history, r.steps) : x.length - 1 };
    H.update(x, layers.map((l) => over("H", l)), { ...options, ymax: 7 });
    I.update(x, layers.map((l) => over("I", l - 1)), options);
    KL.update(x, [over("KL", 0)], options);
    past.update(history);
    counter.textContent = `${count(r.steps)} days and nights` + (running && pace.rate ? `, ${count(pace.rate / 1000)}k a second` : "");
    judge(r);
    tale.show(stepOf(steps, then(), usual));
    if (running) return;
    if (moved) address.write(named(lived()));
    link.href = address.to(named(then())) || "#";
    program.textContent = asPython(then(), { sizes, seed, epoch: words.length });
  }
  const coloured = () => {
    let end = 0;
    return lived().map(({ scheme, steps }) => [end, (end += steps), `var(--${scheme})`]);
  };
  /** A report as a point of the history: numbers, and its bars with a byte each. */
  const record = ({ steps, scheme, up, down, top, H, I, KL, offSupport, heard }) => {
    const numbers = { H: H.recognition, I: I.recognition.map((nats) => (nats > 1e-9 ? nats : 0)), KL: [KL.recognition[0]] };
    history = keep({ steps, scheme, ...numbers, top, offSupport, heard, bars: { up: up.map(squeezed), down: down.map(squeezed) } });
    const now = performance.now();
    if (now - pace.time > 500) pace = { steps, time: now, rate: pace.time ? (1000 * (steps - pace.steps)) / (now - pace.time) : 0 };
  };

  trainer.onmessage = ({ data }) => {
    // of a machine that is gone
    if (data.life !== life) return;
    if (data.turned) return turned(data.turned);
    if (data.done) {
      play(false);
      return tell();
    }
    record(data);
    latest = { ...data, H: data.H.recognition, both: data };
    el.dataset.steps = data.steps;
    if (!still) show();
    tell();
  };
  const tell = () => {
    const { steps: after, both: { H, I, KL, recognition, generative } } = latest, weights = weightRows({ sizes, recognition, generative });
    const finite = ([way, values]) => [way, values.map((nats) => (Number.isFinite(nats) ? nats : null))];
    // a copy: a model sees no change in a list that it has
    const resting = running ? {} : { history: history.map(({ steps, H, I, KL }) => ({ steps, H, I, KL })) }, schedule = lived().map((s) => [s.scheme, s.steps, s.every, s.lr]);
    const computed = { steps: after, schedule, shown: point().steps, weights, H, I, KL: Object.fromEntries(Object.entries(KL).map(finite)), dead: collapsed(latest), step: step() + 1 };
    publish({ ...computed, ...resting }, running ? 300 : 0);
  };

  trainer.onerror = () => (verdict.textContent = "This browser does not let a page compute in the background.");

  // what the hand does
  const send = (order) => trainer.postMessage(order), protocol = () => ({ scheme, every, lr });
  const onAndOn = () => [{ ...protocol(), until: Infinity, rate: rate(), free: true }];
  /** On by the protocol as it is now, wherever that leads. */
  function freely() {
    moved = true;
    send({ plan: onAndOn() });
  }
  function play(on) {
    if (on && moment) past.back();
    running = on;
    begun = true;
    still = false;
    pace = { steps: 0, time: 0, rate: 0 };
    player.textContent = on ? "Pause" : "Play";
    if (on) (moved = true), send({ plan: onAndOn() });
    send({ running: on && seen });
    publish({ running });
    if (!on && latest) show();
  }
  function use(name) {
    if (name === scheme) return;
    turned({ scheme: name, every, lr });
    freely();
  }
  /** The controls say what a plan has come to; what the hand has set they say already, and it may be set anew by then. */
  function turned({ rate, fast, free, ...now }) {
    if (free) return;
    ({ scheme, every, lr } = now);
    schemes.set(scheme);
    if (rate && !fast) paced(Math.log10(rate));
    publish({ scheme, every, lr });
  }
  function paced(v) {
    speed = faster.input.value = SPEEDS.reduce((a, b) => (Math.abs(b - v) < Math.abs(a - v) ? b : a));
    faster.refresh();
    publish({ speed });
  }
  function goAt(v) {
    paced(v);
    send({ rate: rate() });
  }
  function growFrom(n) {
    seed = seeds.input.value = n;
    reset(true);
    publish({ seed });
  }
  /** A new machine, and a plan for it. */
  function begin(plan, on) {
    history = [];
    keep = timeline();
    latest = moment = null;
    past.back();
    running = on;
    player.textContent = on ? "Pause" : "Play";
    send({ begin: { sizes, words, streams, tunes, seed, life: ++life }, plan, running: on && seen });
    publish({ running });
  }
  const reset = (again) => begin(onAndOn(), again);
  const quickly = (part) => ({ ...part, rate: 1e9, fast: true });
  /** Into a step of the story: at once to where it begins, and through it at its own pace. */
  function lead(k) {
    const from = steps[k - 1]?.until ?? 0, now = step() < 0 ? Infinity : latest.steps, last = { ...steps[k], rate: 10 ** steps[k].speed };
    follow([...steps.slice(0, k).map(quickly), calm() ? quickly(last) : last], now > from || now >= last.until);
  }
  function follow(plan, anew) {
    moved = begun = true;
    ear.stop();
    if (anew) begin(plan, true);
    else if (moment) past.back();
    still = calm();
    running = true;
    player.textContent = "Pause";
    pace = { steps: 0, time: 0, rate: 0 };
    if (!anew) send({ plan, running: seen });
    publish({ running });
  }
  /** To the state that an address names. */
  function goTo({ seed: other = start.seed, schedule = "" }) {
    const stretches = parsed(schedule, usual, Object.keys(SCHEMES));
    if (!stretches || !whole(1, 16).test(other)) return false;
    let until = 0;
    seed = seeds.input.value = other;
    publish({ seed });
    follow(stretches.map(({ steps, ...part }) => quickly({ ...part, until: (until += steps) })), true);
    return true;
  }
  /** What is seen first: the story up to `first` steps, or so many of the scheme. */
  const open = () => {
    const told = steps.filter(({ until }) => until <= first).map((one) => ({ ...one, rate: 10 ** one.speed }));
    const plan = told.length ? told : [{ ...protocol(), until: first, rate: rate() }];
    follow(calm() ? plan.map(quickly) : plan, false);
    moved = false;
  };

  reset(false);
  goTo(address.read());
  const unwatch = watchSeen(el, (now) => {
    seen = now;
    if (seen && !begun) return open();
    pace = { steps: 0, time: 0, rate: 0 };
    if (running) send({ running: seen });
  });
  return () => (unwatch(), ear.stop(), trainer.terminate());
}

export default { render };
