// Units that two coins agree on: the walk of the chapter on drift (`unit_step`) and its theory, without a page.

export const firing = (s) => 1 / (1 + Math.exp(-s));

/** In each machine the `uses` units whose coins are fairest: they carry what the data need. Machines lie one after another. */
export function carriers(b, r, units, uses) {
  const carries = new Uint8Array(b.length).fill(1);
  if (uses >= units) return carries;
  const far = b.map((_, i) => Math.abs(b[i] + r[i]));
  for (let i = 0; i < b.length; i++) {
    const first = i - (i % units);
    let rank = 0;
    for (let j = first; j < first + units; j++) rank += far[j] < far[i] || (far[j] === far[i] && j < i);
    carries[i] = rank < uses;
  }
  return carries;
}

/** One wake and one dream of all units, in place; u holds four uniforms for each datum of the batch and each unit. */
export function unitStep({ b, r, usual, units, uses }, u, { batch, use, flip }, rate, turn) {
  const n = b.length, block = batch * n, carries = carriers(b, r, units, uses);
  for (let i = 0; i < n; i++) {
    const q = firing(r[i]), share = use * carries[i];
    let fired = 0, error = 0;
    for (let k = i; k < block; k += n) {
      const says = u[k] < share ? +(u[k] < share / 2) : q;
      fired += turn ? says > usual[i] : u[block + k] < says + flip * (1 - 2 * says);
    }
    const y = fired / batch;
    usual[i] += rate * q * (1 - q) * (y - usual[i]);
    b[i] += rate * (y - firing(b[i]));
    const p = firing(b[i]);
    for (let k = i; k < block; k += n) if (u[3 * block + k] >= share) error += (u[2 * block + k] < p) - q;
    r[i] += (rate * error) / batch;
  }
}

/** exp(x²) erfc(x), for x not below -20: a series near zero, a continued fraction beyond. */
export function erfcx(x) {
  if (x > 2) {
    let below = x;
    for (let k = 60; k > 0; k--) below = x + k / 2 / below;
    return 1 / (Math.sqrt(Math.PI) * below);
  }
  if (x < -2) return 2 * Math.exp(x * x) - erfcx(-x);
  let term = x, sum = x;
  for (let k = 1; k < 60; k++) sum += term *= (2 * x * x) / (2 * k + 1);
  return Math.exp(x * x) - (2 / Math.sqrt(Math.PI)) * sum;
}

/** By how much a wake phase fires more often than q, and the share of q's moves that MIM makes up for. */
export function excess(q, { batch, use, flip, every }, rate, told = true) {
  const u = told ? use : 0, tossed = u * (0.5 - q) + (1 - u) * flip * (1 - 2 * q);
  if (!every) return [tossed, 0];
  if (every === 1 && u === 0) return [0, 1];
  const f = q + tossed, m = every, needed = (1 - 1 / m) * tossed + (u * (0.5 - q)) / m;
  const width = Math.sqrt((rate * q * (1 - q) * ((1 - 1 / m) * f * (1 - f) + u / 4 / m)) / batch);
  const below = Math.max((needed + ((1 - u) * (1 - q)) / m) / width, -20), above = Math.max((((1 - u) * q) / m - needed) / width, -20);
  const [a, c] = [erfcx(below), erfcx(above)], fires = a / (a + c), root = 1 / Math.sqrt(Math.PI);
  const follows = (2 * (1 - u) * ((1 - fires) * (root - below * a) + fires * (root - above * c))) / (m * width * (a + c));
  return [needed + ((1 - u) * (fires - q)) / m, follows];
}

/** The expected step of b and of r. */
export function expectedStep(b, r, forces, rate) {
  const q = firing(r), db = rate * (q + excess(q, forces, rate)[0] - firing(b));
  return [db, rate * (1 - forces.use) * (firing(b + db) - q)];
}

/** Push and noise (half the variance) of the mean logit at each theta, per unit of the clock. */
export function pressure(theta, forces, rate, told = true) {
  const u = told ? forces.use : 0, push = theta.map(() => 0), noise = theta.map(() => 0);
  for (let i = 0; i < theta.length; i++) {
    const p = firing(theta[i]), [more, follows] = excess(p, forces, rate, told), all = 2 - u - (1 - u) ** 2 * follows;
    push[i] = (((1 - u) * more) / all) * (forces.batch / rate);
    noise[i] = (p * (1 - p) * ((1 - u) ** 2 * (1 - follows) ** 2 + 1 - u)) / all ** 2 / 2;
  }
  return [push, noise];
}

/** The density on a grid when the clock has gone on by tau: one implicit step of hops to the neighbours. */
export function evolve(density, [push, noise], tau, apart) {
  const n = density.length, gain = new Float64Array(n), out = new Float64Array(n);
  const up = (i) => (i < n - 1 ? noise[i] / apart ** 2 + Math.max(push[i], 0) / apart : 0);
  const down = (i) => (i > 0 ? noise[i] / apart ** 2 + Math.max(-push[i], 0) / apart : 0);
  for (let i = 0; i < n; i++) {
    const from = i ? tau * up(i - 1) : 0, pivot = 1 + tau * (up(i) + down(i)) - from * (i ? gain[i - 1] : 0);
    gain[i] = i < n - 1 ? (tau * down(i + 1)) / pivot : 0;
    out[i] = (density[i] + from * (i ? out[i - 1] : 0)) / pivot;
  }
  for (let i = n - 2; i >= 0; i--) out[i] += gain[i] * out[i + 1];
  return out;
}

/** The entropy of a coin, in bits. */
export const coinBits = (p) => (p > 0 && p < 1 ? -p * Math.log2(p) - (1 - p) * Math.log2(1 - p) : 0);
