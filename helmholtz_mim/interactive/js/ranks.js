// What a step asks of a rank (chapter 49 and the one after it: `bits_sent`, `gradients_sent`, `asked_of_a_rank`), without a page.

const sum = (numbers) => numbers.reduce((total, n) => total + n, 0);
const weights = (sizes) => sum(sizes.slice(1).map((n, l) => n * sizes[l]));

/** Bytes that a rank sends in a step if units are spread. */
export function bitsSent(sizes, batch, dreams, ranks) {
  const widest = sizes.map((n) => Math.ceil(n / (8 * ranks)));
  return (ranks - 1) * (batch * sum(widest.slice(1)) + dreams * sum(widest));
}

/** Bytes that a rank sends in a step if rows are. */
export function gradientsSent(sizes, ranks) {
  const totals = [sizes, sizes.slice(1)].map((units) => 4 * (weights(sizes) + sum(units)));
  return sum(totals.map((total) => Math.floor((2 * total * (ranks - 1)) / ranks)));
}

/** Multiplications, units to decide, messages to wait for, bytes to send. */
export function askedOfARank(sizes, batch, units = 1, rows = 1) {
  const share = batch / rows, rounds = [units, rows].map((n) => Math.ceil(Math.log2(n)));
  const bits = bitsSent(sizes, Math.ceil(share), Math.ceil(share), units);
  const messages = (2 * sizes.length - 1) * rounds[0] + 4 * rounds[1];
  return [(6 * share * weights(sizes)) / units, share * sum(sizes), messages, bits + gradientsSent(sizes, rows) / units];
}

/** Seconds of a step, from what each of those costs. */
export function stepSeconds(sizes, batch, units, rows, costs, latency, gigabits) {
  const beyond = [0, 0, latency, 8e-9 / gigabits];
  return sum(askedOfARank(sizes, batch, units, rows).map((n, i) => n * (costs[i] + beyond[i])));
}

/** Which of so many ranks owns the thing of that number, of n. */
export const owner = (k, n, ranks) => Math.floor(((k + 1) * ranks - 1) / n);
