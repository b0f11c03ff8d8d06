// What a machine of the lab has lived: stretches { scheme, steps, every, lr }, written into an address, read from one, and as Python.

/** `wake-sleep*90500_mim*54300`; the protocol is added where it is not the usual one. */
export function written(lived, usual) {
  const other = ({ every, lr }) => (every === usual.every && lr === usual.lr ? [] : [every, lr]);
  return lived.map((stretch) => [stretch.scheme, stretch.steps, ...other(stretch)].join("*")).join("_");
}

/** The stretches of such a text, or null if it is none. */
export function parsed(text, usual, schemes) {
  const lived = String(text).split("_").map((one) => one.split("*")).map(([scheme, steps, every = usual.every, lr = usual.lr]) => ({ scheme, steps: +steps, every: +every, lr: +lr }));
  const fine = ({ scheme, steps, every, lr }) => schemes.includes(scheme) && Number.isInteger(steps) && steps >= 0 && Number.isInteger(every) && every > 0 && lr >= 0 && lr <= 10;
  return lived.every(fine) && lived.reduce((sum, { steps }) => sum + steps, 0) <= 1e7 ? lived : null;
}

/** What had been lived after so many steps. */
export function cut(lived, steps) {
  let from = 0;
  const kept = lived.map((stretch) => ({ ...stretch, steps: Math.min(stretch.steps, steps - from), from: (from += stretch.steps) }));
  return kept.filter(({ steps }) => steps > 0);
}

/** The step of a story that somebody is in who has lived so, or -1 if it went another way; a step is { scheme, until }. */
export function stepOf(story, lived, usual) {
  const steps = lived.reduce((sum, stretch) => sum + stretch.steps, 0), at = story.findIndex(({ until }) => steps <= until);
  const told = story.slice(0, at + 1).map(({ scheme, until }, i) => ({ scheme, ...usual, steps: Math.min(until, steps) - (story[i - 1]?.until ?? 0) }));
  return at >= 0 && written(joined(told), usual) === written(joined(lived), usual) ? at : -1;
}

/** Neighbours of the same protocol as one stretch. */
export function joined(lived) {
  const same = (a, b) => a && ["scheme", "every", "lr"].every((name) => a[name] === b[name]);
  return lived.filter(({ steps }) => steps).reduce((all, stretch) => {
    const last = all.at(-1);
    return same(last, stretch) ? [...all.slice(0, -1), { ...last, steps: last.steps + stretch.steps }] : [...all, stretch];
  }, []);
}

/** A program that trains the same machine, in whole passes through so many data. */
export function asPython(lived, { sizes, seed, epoch }) {
  const config = ({ steps, every, lr }) => [Math.max(1, Math.round(steps / epoch)), ...(lr === 0.1 ? [] : [`lr=${lr}`]), ...(every === 10 ? [] : [`every=${every}`])].join(", ");
  const stretches = lived.map((stretch) => `    ("${stretch.scheme}", TrainConfig(${config(stretch)})),`);
  return [
    "import torch", "from helmholtz_mim import HelmholtzMachine, TrainConfig, exact_report", "from helmholtz_mim import scheme, train, well_formed", "",
    `machine, rhythms = HelmholtzMachine((${sizes.join(", ")})), well_formed(${sizes[0]})`,
    ...(stretches.length ? ["schedule = [", ...stretches, "]"] : ["schedule = []"]),
    "for k, (name, config) in enumerate(schedule):",
    `    generator = torch.Generator().manual_seed(${seed} + 16 * ${lived.length > 8 ? "(k % 8)" : "k"})`,
    "    train(", "        machine, rhythms, config, allocate=scheme(name), generator=generator", "    )",
    "print(exact_report(machine, rhythms))",
  ].join("\n");
}
