// The machine, its training and its exact diagnostics, as in the chapters, on typed arrays.
// Everything here is a function or a class without outside names but each other's, so that a worker can be made of it.

/** The upper 32 bits of the product of two unsigned 32-bit numbers. */
export function upperHalf(a, b) {
  const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const other = a0 * b1 + (middle & 0xffff);
  return (a1 * b1 + (middle >>> 16) + (other >>> 16)) | 0;
}

/** SplitMix64 in 32-bit halves: the same numbers as `helmholtz_mim.Stream` with the key 2^32 high + low. */
export class Stream {
  constructor(high, low) {
    this.key = new Int32Array([high, low]);
    this.state = new Int32Array([high, low]);
    this.position = 0;
  }

  /** Continue after so many numbers. */
  seek(position) {
    const below = position >>> 0, above = (position / 4294967296) >>> 0;
    const low = (this.key[1] >>> 0) + (Math.imul(below, 0x7f4a7c15) >>> 0);
    const product = upperHalf(below, 0x7f4a7c15) + Math.imul(below, 0x9e3779b9) + Math.imul(above, 0x7f4a7c15);
    this.state[0] = this.key[0] + product + (low > 0xffffffff);
    this.state[1] = low;
    this.position = position;
  }

  /** The next numbers in [0, 1), as many as u holds. */
  fill(u) {
    let stateHigh = this.state[0], stateLow = this.state[1];
    for (let i = 0; i < u.length; i++) {
      const sum = (stateLow >>> 0) + 0x7f4a7c15;
      stateHigh = (stateHigh + 0x9e3779b9 + (sum > 0xffffffff ? 1 : 0)) | 0;
      stateLow = sum | 0;
      let low = stateLow ^ ((stateLow >>> 30) | (stateHigh << 2)), high = stateHigh ^ (stateHigh >>> 30);
      high = (upperHalf(low, 0x1ce4e5b9) + Math.imul(low, 0xbf58476d) + Math.imul(high, 0x1ce4e5b9)) | 0;
      low = Math.imul(low, 0x1ce4e5b9);
      low ^= (low >>> 27) | (high << 5);
      high ^= high >>> 27;
      high = (upperHalf(low, 0x133111eb) + Math.imul(low, 0x94d049bb) + Math.imul(high, 0x133111eb)) | 0;
      low = Math.imul(low, 0x133111eb);
      low ^= (low >>> 31) | (high << 1);
      high ^= high >>> 31;
      u[i] = ((high >>> 0) * 2097152 + (low >>> 11)) * 1.1102230246251565e-16;
    }
    this.state[0] = stateHigh;
    this.state[1] = stateLow;
    this.position += u.length;
    return u;
  }
}

/** σ(x) to ten digits, from a grid of its values: its derivatives are polynomials in itself, so three terms of Taylor's series are enough. */
export function sigmoid(x, grid) {
  const within = Math.min(Math.max(x, -31), 31), k = (64 * within + 2048.5) & 4095;
  const h = within - (k / 64 - 32), s = grid[k], slope = s * (1 - s);
  return s + h * slope * (1 + h * (0.5 - s + h * (1 / 6 - slope)));
}

/** Fill x with the inputs of n units: their bias and a row of weights for each unit that is on, two rows at a time. */
export function listen(x, weights, on, count, n) {
  const bias = weights.length - n, even = count & -2;
  for (let j = 0; j < n; j++) x[j] = weights[bias + j];
  for (let i = 0; i < even; i += 2) {
    const a = on[i] * n, b = on[i + 1] * n;
    for (let j = 0; j < n; j++) x[j] += weights[a + j] + weights[b + j];
  }
  if (even < count) for (let j = 0, a = on[even] * n; j < n; j++) x[j] += weights[a + j];
}

/** Toss the coins of a layer whose units hear x, with the uniforms from u[at]: its pattern z, the list of those on, and their number. */
export function toss(x, grid, u, at, z, on) {
  let count = 0;
  for (let j = 0; j < z.length; j++) {
    const fires = Math.ceil(sigmoid(x[j], grid) - u[at + j]) | 0; // u < p, without a branch that nobody can foresee
    z[j] = fires;
    on[count] = j;
    count += fires;
  }
  return count;
}

/** One step of the delta rule towards the pattern z, for units that hear x: changes the rows of the inputs that are on. */
export function teach(x, grid, weights, on, count, z, lr) {
  const n = z.length, even = count & -2;
  for (let j = 0; j < n; j++) x[j] = lr * (z[j] - sigmoid(x[j], grid));
  for (let i = 0; i < even; i += 2) {
    const a = on[i] * n, b = on[i + 1] * n;
    for (let j = 0; j < n; j++) {
      const step = x[j];
      weights[a + j] += step;
      weights[b + j] += step;
    }
  }
  if (even < count) for (let j = 0, a = on[even] * n; j < n; j++) weights[a + j] += x[j];
}

/** A Helmholtz machine without biases but the prior's; a block of weights has one row for each input, and then the bias. */
export class Machine {
  constructor(sizes) {
    this.sizes = sizes;
    this.top = sizes.length - 1;
    this.recognition = sizes.slice(1).map((n, l) => new Float64Array((sizes[l] + 1) * n)); // [l]: from layer l up
    this.generative = sizes.map((n, l) => new Float64Array(((sizes[l + 1] ?? 0) + 1) * n)); // [l]: down to layer l
    this.z = sizes.map((n) => new Uint8Array(n)); // the pattern of each layer
    this.p = sizes.map((n) => new Float64Array(n)); // the probability that its units fire
    this.u = sizes.map((n) => new Float64Array(n)); // the uniforms that decided
    this.on = [...sizes, 0].map((n) => new Int32Array(n)); // which units fire; above the top there is none
    this.count = new Int32Array(sizes.length + 1); // and how many
    this.grid = Float64Array.from({ length: 4096 }, (_, k) => 1 / (1 + Math.exp(32 - k / 64))); // σ from -32 to 32
    this.x = new Float64Array(Math.max(...sizes)); // what the units of a layer hear
    this.downward = new Float64Array(sizes.reduce((a, b) => a + b)); // the uniforms of a dream
    this.upward = this.downward.subarray(sizes[0]); // and of a day
  }

  /** List the units of a layer that are on. */
  list(layer) {
    const z = this.z[layer], on = this.on[layer];
    let count = 0;
    for (let j = 0; j < z.length; j++) {
      on[count] = j;
      count += z[j];
    }
    this.count[layer] = count;
  }

  /** Fill x with what the units of a layer hear from its input layer (the prior's: from none). */
  listen(weights, input, layer) {
    listen(this.x, weights, this.on[input], this.count[input], this.sizes[layer]);
  }

  /** The probabilities of a layer, given the pattern of its input layer. */
  predict(weights, input, layer) {
    const p = this.p[layer];
    this.listen(weights, input, layer);
    for (let j = 0; j < p.length; j++) p[j] = sigmoid(this.x[j], this.grid);
  }

  /** Decide the pattern of a layer from its probabilities: by coins, or by a rule. */
  decide(layer, stream, rule) {
    const p = this.p[layer], z = this.z[layer], u = stream.fill(this.u[layer]);
    if (rule) rule.decide(layer, p, u, z);
    else for (let j = 0; j < z.length; j++) z[j] = u[j] < p[j] ? 1 : 0;
    this.list(layer);
  }

  /** Both at once by coins, with the uniforms from u[at]. */
  draw(weights, input, layer, u, at) {
    this.listen(weights, input, layer);
    this.count[layer] = toss(this.x, this.grid, u, at, this.z[layer], this.on[layer]);
    return at + this.sizes[layer];
  }

  /** One step of the delta rule, towards the pattern of the layer. */
  learn(weights, input, layer, lr) {
    this.listen(weights, input, layer);
    teach(this.x, this.grid, weights, this.on[input], this.count[input], this.z[layer], lr);
  }

  /** Patterns upward from a datum. */
  wake(bits, stream, rule) {
    const z = this.z[0];
    for (let j = 0; j < z.length; j++) z[j] = bits[j];
    this.list(0);
    if (rule) for (let l = 1; l <= this.top; l++) {
      this.predict(this.recognition[l - 1], l - 1, l);
      this.decide(l, stream, rule);
    } else {
      const u = stream.fill(this.upward);
      for (let l = 1, at = 0; l <= this.top; l++) at = this.draw(this.recognition[l - 1], l - 1, l, u, at);
    }
  }

  /** Patterns downward from the prior. */
  dream(stream) {
    const u = stream.fill(this.downward);
    for (let l = this.top, at = 0; l >= 0; l--) at = this.draw(this.generative[l], l + 1, l, u, at);
  }

  learnGenerative(lr) {
    for (let l = 0; l < this.top; l++) this.learn(this.generative[l], l + 1, l, lr);
    const prior = this.generative[this.top], z = this.z[this.top];
    for (let j = 0; j < z.length; j++) prior[j] += lr * (z[j] - sigmoid(prior[j], this.grid));
  }

  learnRecognition(lr) {
    for (let l = 0; l < this.top; l++) this.learn(this.recognition[l], l, l + 1, lr);
  }
}

/** The weights of a machine as lists of rows: one for each input, and the bias last. */
export function weightRows({ sizes, recognition, generative }) {
  const rows = (block, n) => Array.from({ length: block.length / n }, (_, i) => [...block.subarray(i * n, (i + 1) * n)]);
  return { recognition: recognition.map((block, l) => rows(block, sizes[l + 1])), generative: generative.map((block, l) => rows(block, sizes[l])) };
}

/** Patterns of n bits, given as numbers: { n, words, bits }. */
export function patterns(n, words) {
  const bits = words.map((word) => Uint8Array.from({ length: n }, (_, j) => (word >> (n - 1 - j)) & 1));
  return { n, words, bits };
}

/** Random perturbation: every coin is flipped with that probability. */
export class Flip {
  constructor(rate = 0.25) {
    this.rate = rate;
  }

  decide(layer, p, u, y) {
    for (let j = 0; j < p.length; j++) y[j] = u[j] < p[j] + this.rate * (1 - 2 * p[j]) ? 1 : 0;
  }
}

/** Factorial MIM: every unit fires if it is likelier to fire than usual. */
export class FactorialMIM {
  constructor(epsilon = 0.02) {
    this.epsilon = epsilon;
    this.usual = null;
  }

  /** Every unit is usually on half of the time, until it is known better. */
  begin(machine) {
    this.usual ??= machine.sizes.map((n) => new Float64Array(n).fill(0.5));
  }

  decide(layer, p, u, y) {
    const t = this.usual[layer];
    for (let j = 0; j < p.length; j++) y[j] = p[j] > t[j] ? 1 : 0;
  }

  /** Let the frequencies follow the patterns that were used, whoever decided them. */
  observe(z) {
    for (let l = 1; l < z.length; l++) {
      const t = this.usual[l], y = z[l];
      for (let j = 0; j < t.length; j++) t[j] += this.epsilon * (y[j] - t[j]);
    }
  }
}

/** Online wake-sleep, one datum and one dream a step; in one step of so many the rule decides. */
export class Training {
  constructor(machine, data, stream, { lr = 0.1, every = 10 } = {}) {
    Object.assign(this, { machine, data, stream, lr, every, rule: null, steps: 0 });
    this.coins = new Float64Array(data.words.length);
    this.order = new Int32Array(data.words.length);
  }

  /** Hand over to another rule (null: coins only), here and now. */
  use(rule) {
    this.rule = rule;
    rule?.begin?.(this.machine, this.data, this.lr);
  }

  beginEpoch() {
    const coins = this.stream.fill(this.coins);
    for (let i = 0; i < this.order.length; i++) this.order[i] = i;
    this.order.sort((a, b) => coins[a] - coins[b]);
    this.rule?.begin?.(this.machine, this.data, this.lr);
  }

  run(steps) {
    const { machine, data, stream, lr } = this, epoch = this.order.length;
    for (const end = this.steps + steps; this.steps < end; ) {
      if (this.steps % epoch === 0) this.beginEpoch();
      const bits = data.bits[this.order[this.steps % epoch]];
      this.steps += 1;
      machine.wake(bits, stream, this.steps % this.every === 0 ? this.rule : null);
      machine.learnGenerative(lr);
      this.rule?.observe?.(machine.z);
      machine.dream(stream);
      machine.learnRecognition(lr);
    }
  }
}

/** The inputs of n units for each datum, or for each of all patterns of the layer that feeds them. */
export function logits(weights, inputs, n, data = null) {
  const rows = data ? data.words.length : 2 ** inputs, s = new Float64Array(rows * n);
  for (let k = 0; k < rows; k++) {
    let word = data ? data.words[k] : k, from = weights.length - n, known = -1;
    if (!data && word) (known = (word & (word - 1)) * n), (word &= -word);
    for (let j = 0; j < n; j++) s[k * n + j] = known < 0 ? weights[from + j] : s[known + j];
    for (let i = 0; i < inputs; i++) {
      if (!((word >> (inputs - 1 - i)) & 1)) continue;
      from = i * n;
      for (let j = 0; j < n; j++) s[k * n + j] += weights[from + j];
    }
  }
  return s;
}

/** Probabilities of the patterns of units `first` to `last`, given row k of the logits s, times `scale`: fills `out`. */
export function table(s, k, n, first, last, out, scale = 1) {
  out[0] = scale;
  for (let j = first, size = 1; j < last; j++, size *= 2) {
    const x = s[k * n + j], e = Math.exp(-Math.abs(x)), likely = 1 / (1 + e);
    const on = x > 0 ? likely : e * likely, off = x > 0 ? e * likely : likely;
    for (let a = size - 1; a >= 0; a--) {
      out[2 * a + 1] = out[a] * on;
      out[2 * a] = out[a] * off;
    }
  }
}

/** The distribution of n units whose inputs are row k of s with probability p[k]; a product of half-width tables, four rows at a time. */
export function push(p, s, n) {
  const half = n >> 1, out = new Float64Array(2 ** n), tables = (n) => [0, 1, 2, 3].map(() => new Float64Array(2 ** n));
  const left = tables(half), right = tables(n - half);
  let held = 0;
  for (let k = 0; k < p.length; k++) {
    if (p[k] === 0) continue;
    table(s, k, n, 0, half, left[held], p[k]);
    table(s, k, n, half, n, right[held]);
    if (++held === 4) (held = 0), addProducts(out, left, right);
  }
  left.slice(held).forEach((rest) => rest.fill(0));
  addProducts(out, left, right);
  return out;
}

/** Add the outer products of four pairs of tables to out, which is so read and written a quarter as often. */
export function addProducts(out, [a, b, c, d], [e, f, g, h]) {
  for (let i = 0, at = 0; i < a.length; i++) {
    const w = a[i], x = b[i], y = c[i], z = d[i];
    for (let j = 0; j < e.length; j++) out[at + j] += w * e[j] + x * f[j] + (y * g[j] + z * h[j]);
    at += e.length;
  }
}

/** H(p) in nats. */
export function entropy(p) {
  let h = 0;
  for (let k = 0; k < p.length; k++) if (p[k] > 0) h -= p[k] * Math.log(p[k]);
  return h;
}

/** KL(p ‖ q) in nats; infinite where p has mass and q has none. */
export function divergence(p, q) {
  let sum = 0;
  for (let k = 0; k < p.length; k++) if (p[k] > 0) sum += p[k] * (Math.log(p[k]) - Math.log(q[k]));
  return sum;
}

/** H(Y|X) in nats, if row k of the logits has weight p[k]. */
export function conditionalEntropy(p, s, n) {
  let sum = 0;
  for (let k = 0; k < p.length; k++) {
    let h = 0;
    for (let j = 0; j < n; j++) {
      const x = Math.abs(s[k * n + j]), e = Math.exp(-x); // h is even, and this never overflows
      h += Math.log1p(e) + (x * e) / (1 + e);
    }
    sum += p[k] * h;
  }
  return sum;
}

/** Exact H, I and KL (nats) of every layer and both directions, as `exact_report`, with the distributions themselves. */
export function exactReport(machine, data) {
  const { sizes, top } = machine, evenly = new Float64Array(data.words.length).fill(1 / data.words.length);
  const up = [new Float64Array(2 ** sizes[0])], down = [], I = { recognition: [], generative: [] };
  for (const word of data.words) up[0][word] += 1 / data.words.length;
  machine.recognition.forEach((block, l) => {
    const s = logits(block, sizes[l], sizes[l + 1], l ? null : data), p = l ? up[l] : evenly;
    up.push(push(p, s, sizes[l + 1]));
    I.recognition.push(entropy(up[l + 1]) - conditionalEntropy(p, s, sizes[l + 1]));
  });
  down[top] = push([1], machine.generative[top], sizes[top]);
  for (let l = top - 1; l >= 0; l--) {
    const s = logits(machine.generative[l], sizes[l + 1], sizes[l]);
    down[l] = push(down[l + 1], s, sizes[l]);
    I.generative[l] = entropy(down[l]) - conditionalEntropy(down[l + 1], s, sizes[l]);
  }
  const H = { recognition: up.map(entropy), generative: down.map(entropy) };
  const KL = { recognition: up.map((p, l) => divergence(p, down[l])), generative: down.map((p, l) => divergence(p, up[l])) };
  let offSupport = 0;
  for (let k = 0; k < up[0].length; k++) if (!up[0][k]) offSupport += down[0][k];
  return { up, down, H, I, KL, offSupport };
}
