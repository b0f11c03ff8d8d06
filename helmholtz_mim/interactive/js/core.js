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
    this.on = sizes.map((n) => new Int32Array(n)); // which units fire
    this.count = new Int32Array(sizes.length); // and how many
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

  /** The probabilities of a layer, given the pattern of its input layer (none for the prior). */
  predict(weights, input, layer) {
    const p = this.p[layer], n = p.length, bias = weights.length - n;
    for (let j = 0; j < n; j++) p[j] = weights[bias + j];
    if (input <= this.top) {
      const on = this.on[input], count = this.count[input];
      for (let i = 0; i < count; i++) {
        const row = on[i] * n;
        for (let j = 0; j < n; j++) p[j] += weights[row + j];
      }
    }
    for (let j = 0; j < n; j++) p[j] = 1 / (1 + Math.exp(-p[j]));
  }

  /** One step of the delta rule for the same weights, towards the pattern of the layer. */
  learn(weights, input, layer, lr) {
    this.predict(weights, input, layer);
    const p = this.p[layer], z = this.z[layer], n = p.length;
    for (let j = 0; j < n; j++) p[j] = lr * (z[j] - p[j]);
    if (input > this.top) for (let j = 0; j < n; j++) weights[j] += p[j];
    else {
      const on = this.on[input], count = this.count[input];
      for (let i = 0; i < count; i++) {
        const row = on[i] * n;
        for (let j = 0; j < n; j++) weights[row + j] += p[j];
      }
    }
  }

  /** Decide the pattern of a layer: by coins, or by a rule. */
  decide(layer, stream, rule) {
    const p = this.p[layer], z = this.z[layer], u = stream.fill(this.u[layer]);
    if (rule) rule.decide(layer, p, u, z);
    else for (let j = 0; j < z.length; j++) z[j] = u[j] < p[j] ? 1 : 0;
    this.list(layer);
  }

  /** Patterns upward from a datum. */
  wake(bits, stream, rule) {
    this.z[0].set(bits);
    this.list(0);
    for (let l = 1; l <= this.top; l++) {
      this.predict(this.recognition[l - 1], l - 1, l);
      this.decide(l, stream, rule);
    }
  }

  /** Patterns downward from the prior. */
  dream(stream) {
    for (let l = this.top; l >= 0; l--) {
      this.predict(this.generative[l], l + 1, l);
      this.decide(l, stream);
    }
  }

  learnGenerative(lr) {
    for (let l = 0; l <= this.top; l++) this.learn(this.generative[l], l + 1, l, lr);
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
  /** Step sizes and usual frequencies of every layer, from its exact distribution. */
  begin(machine, data, lr) {
    this.epsilon = [0];
    this.usual = [null];
    let weights = new Float64Array(data.words.length).fill(1 / data.words.length);
    machine.recognition.forEach((block, l) => {
      const n = machine.sizes[l + 1], s = logits(block, machine.sizes[l], n, l ? null : data);
      this.epsilon.push(localStep(s, n, weights, l ? null : data, lr));
      weights = push(weights, s, n);
      this.usual.push(marginals(weights, n));
    });
  }

  decide(layer, p, u, y) {
    const t = this.usual[layer];
    for (let j = 0; j < p.length; j++) y[j] = p[j] > t[j] ? 1 : 0;
  }

  /** Let the frequencies follow the patterns that were used, whoever decided them. */
  observe(z) {
    for (let l = 1; l < z.length; l++) {
      const t = this.usual[l], y = z[l], epsilon = this.epsilon[l];
      for (let j = 0; j < t.length; j++) t[j] += epsilon * (y[j] - t[j]);
    }
  }
}

/** Online wake-sleep, one datum and one dream a step; in every so many-th step the rule decides. */
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

/** Probabilities of the patterns of units `first` to `last`, given row k of the logits s: fills `out`. */
export function table(s, k, n, first, last, out) {
  out[0] = 1;
  for (let j = first, size = 1; j < last; j++, size *= 2) {
    const x = s[k * n + j], e = Math.exp(-Math.abs(x)), likely = 1 / (1 + e);
    const on = x > 0 ? likely : e * likely, off = x > 0 ? e * likely : likely;
    for (let a = size - 1; a >= 0; a--) {
      out[2 * a + 1] = out[a] * on;
      out[2 * a] = out[a] * off;
    }
  }
}

/** The distribution of n units whose inputs are row k of s with probability p[k]; a product of half-width tables. */
export function push(p, s, n) {
  const half = n >> 1, wide = 2 ** (n - half), out = new Float64Array(2 ** n);
  const left = new Float64Array(2 ** half), right = new Float64Array(wide);
  for (let k = 0; k < p.length; k++) {
    if (p[k] === 0) continue;
    table(s, k, n, 0, half, left);
    table(s, k, n, half, n, right);
    for (let a = 0, at = 0; a < left.length; a++, at += wide) {
      const w = p[k] * left[a];
      for (let b = 0; b < wide; b++) out[at + b] += w * right[b];
    }
  }
  return out;
}

/** How often each of n units is on. */
export function marginals(p, n) {
  const t = new Float64Array(n);
  for (let k = 0; k < p.length; k++) for (let j = 0; j < n; j++) if ((k >> (n - 1 - j)) & 1) t[j] += p[k];
  return t;
}

/** ε: the mean fraction of the way to its target that one step of the delta rule moves a unit. */
export function localStep(s, n, weights, data, lr) {
  let sum = 0;
  for (let k = 0; k < weights.length; k++) {
    let active = 0, here = 0;
    for (let word = data ? data.words[k] : k; word; word &= word - 1) active += 1;
    if (!active || !weights[k]) continue;
    for (let j = 0; j < n; j++) {
      const e = Math.exp(-s[k * n + j]), p = 1 / (1 + e), reach = lr * active;
      let fraction = 0;
      for (let y = 0; y < 2; y++) {
        const d = reach * (p - y), less = Math.expm1(-d);
        fraction += (d === 0 ? 1 : -less / d) / (1 + (1 + less) / e);
      }
      here += reach * p * fraction;
    }
    sum += (weights[k] * here) / n / 2;
  }
  return sum;
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
