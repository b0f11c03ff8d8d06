// The machine of the lab, in a worker beside the page: it trains by a plan, and reports at most every 40 ms.
import { binned, worker } from "./kit.js";
import { Flip, FactorialMIM, Machine, Stream, Training, addProducts, conditionalEntropy, divergence, entropy, exactReport, listen, logits, patterns, push, sigmoid, table, teach, toss, upperHalf } from "./core.js";

/** A plan is a list of { scheme, every, lr, until, rate }: how to train until so many steps, at so many a second. */
function engine() {
  const rules = { "wake-sleep": () => null, flip: () => new Flip(), mim: () => new FactorialMIM() };
  const FRAME = 40, BARS = 64, HEARD = 4;
  let training, world, past, now, plan = [], running = false, debt = 0, before = 0, shown = 0, timer;

  const lived = () => [...past, { ...now, steps: training.steps }].filter(({ steps }) => steps);
  const steps = () => past.reduce((sum, stretch) => sum + stretch.steps, training.steps);

  /** A stretch under another protocol begins with random numbers of its own, as a call of Python's `train` does. */
  const turn = ({ scheme, every, lr }) => {
    if (now && scheme === now.scheme && every === now.every && lr === now.lr) return;
    if (training.steps) past.push({ ...now, steps: training.steps });
    now = { scheme, every, lr };
    const stream = new Stream(...world.streams[16 * (past.length % 8) + world.seed - 1]);
    training = new Training(training.machine, training.data, stream, now);
    training.use(rules[scheme]());
  };

  /** Bars to be heard, each with the state of the top layer: dreams, data, and tunes; with random numbers beside the training's. */
  const heard = () => {
    const { machine, data } = training, stream = new Stream(7, steps()), number = (z) => z.reduce((word, bit) => 2 * word + bit, 0);
    const pair = () => [number(machine.z[0]), number(machine.z[machine.top])], awake = (bits) => (machine.wake(bits, stream, null), pair());
    const dreams = Array.from({ length: HEARD }, () => (machine.dream(stream), pair()));
    const chosen = [...stream.fill(new Float64Array(HEARD))].map((u) => data.bits[Math.floor(u * data.bits.length)]);
    return { dreams, rhythms: chosen.map(awake), tunes: world.tunes.map(awake) };
  };

  const report = () => {
    const { up, down, H, I, KL, offSupport } = exactReport(training.machine, training.data);
    const { recognition, generative } = training.machine;
    const half = 2 ** (training.machine.sizes[0] - 1), from = training.data.words.every((word) => word >= half) ? half : 0;
    const visible = (p, l) => binned(l ? p : p.subarray(from), BARS);
    const top = up.map((p) => p.reduce((a, b) => Math.max(a, b)));
    postMessage({ life: world.life, steps: steps(), lived: lived(), scheme: now.scheme, up: up.map(visible), down: down.map(visible), top, H, I, KL, offSupport, heard: heard(), recognition, generative });
    shown = performance.now();
  };

  /** Drop what of the plan is done; whether anything is left. */
  const left = () => {
    while (plan.length && steps() >= plan[0].until) plan.shift();
    if (plan.length) turn(plan[0]);
    return plan.length > 0;
  };

  const rest = () => {
    running = false;
    report();
    postMessage({ life: world.life, done: true });
  };

  const tick = () => {
    const start = performance.now(), { rate, until } = plan[0];
    // what it cannot do in time is let go
    debt = Math.min(debt + (rate * (start - before)) / 1000, Math.max(1, rate / 10), until - steps());
    before = start;
    for (let slice; debt >= 1 && performance.now() - start < FRAME; debt -= slice) training.run((slice = Math.min(Math.floor(debt), 500)));
    if (performance.now() - shown > FRAME) report();
    if (steps() >= until) {
      if (!left()) return rest();
      debt = 0;
      postMessage({ life: world.life, turned: plan[0] });
    }
    timer = setTimeout(tick, debt >= 1 ? 0 : 20);
  };

  onmessage = ({ data: order }) => {
    clearTimeout(timer);
    const pausing = running && order.running === false;
    if (order.begin) {
      world = order.begin;
      const { sizes, words } = world, data = patterns(sizes[0], words);
      world.tunes = patterns(sizes[0], world.tunes).bits;
      [past, now, training] = [[], null, { machine: new Machine(sizes), data, steps: 0 }];
      turn(order.plan[0]);
    }
    if (order.plan) (plan = order.plan), left() && postMessage({ life: world.life, turned: plan[0] });
    if (order.rate) plan.forEach((part) => part.fast || (part.rate = order.rate));
    if (order.steps) training.run(order.steps);
    if (order.begin || "running" in order) (before = performance.now()), (debt = 0);
    running = order.running ?? running;
    if (order.begin || order.steps || pausing) report();
    if (running) left() ? tick() : rest();
  };
}

export const labWorker = () =>
  worker(engine, [upperHalf, Stream, sigmoid, listen, toss, teach, Machine, Flip, FactorialMIM, Training, patterns, logits, table, push, addProducts, entropy, divergence, conditionalEntropy, exactReport, binned]);
