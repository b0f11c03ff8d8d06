"""How often the intervals of a collapse report contain the truth, over synthetic codes whose truth is known.

Every code has a size, a shape and a number of rows of its own: indices of a codebook, bits that copy each other,
probabilities of bits given an input, and bits drawn several times for each input.

usage: python benchmarks/codes.py [codes] [folder for coverage.csv]
"""

import itertools
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from helmholtz_mim.measures.codes import ACTIVE, DEAD, collapse_report


def entropy(p, axis=None):
    """H in nats of probabilities."""
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis)


def one_codebook(rng):
    """Indices of a codebook that is used evenly, unevenly or hardly, and what is true of it."""
    size, rows = int(2 ** rng.uniform(2, 10)), int(2 ** rng.uniform(6.4, 12))
    shape = rng.integers(5)
    p = [
        np.ones(size),
        np.arange(1.0, size + 1) ** -rng.uniform(0.5, 1.5),
        rng.dirichlet(np.full(size, rng.uniform(0.2, 2))),
        np.append(1, np.full(size - 1, rng.uniform(0.001, 0.1) / size)),
        np.where(np.arange(size) < max(1, size // 5), 1.0, 0.0),
    ][shape]
    p = rng.permutation(p / p.sum())
    prior = np.full(size, 1 / size)
    codes = rng.choice(size, rows, p=p)
    unseen = 1 - p[np.unique(codes)].sum()
    truth = {"H": entropy(p), "top": p.max(), "new": unseen, "dead": (p < DEAD / size).sum()}
    truth |= {"perplexity": np.exp(truth["H"]), "KL of the mean": np.log(size) - truth["H"]}
    truth |= {("codes", n): (1 - (1 - p) ** n).sum() for n in (rows // 2, rows // 4)}
    return dict(codes=codes, sizes=size, prior=prior), truth


def machine(rng):
    """A world of inputs, and for each the probabilities of up to eight bits."""
    inputs, units = int(rng.integers(5, 300)), int(rng.integers(1, 9))
    weights = rng.normal(size=(4, units)) * rng.uniform(0, 3)
    p = 1 / (1 + np.exp(-(rng.normal(size=(inputs, 4)) @ weights + rng.normal(size=units))))
    if rng.random() < 0.3:
        p[:, : units // 2] = p[:, :1]  # units that copy the first
    if rng.random() < 0.3:
        p[:, -1] = rng.choice([0.001, 0.3, 0.999])  # a unit that ignores its input
    return p.clip(1e-9, 1 - 1e-9)


def truth_of(p, prior):
    """What is true of bits with these probabilities `(inputs, units)`, all inputs alike, by enumeration."""
    z = np.array([*itertools.product([0, 1], repeat=p.shape[1])])
    given = np.exp(np.log(p) @ z.T + np.log1p(-p) @ (1 - z).T)  # (inputs, codes)
    mean, joint = p.mean(0), given.mean(0)
    alone = entropy(np.stack([mean, 1 - mean]), 0)
    noise = entropy(np.stack([p, 1 - p]), 0).mean(0)
    truth = {"H": entropy(joint), "I": entropy(joint) - entropy(given, 1).mean(), "H of parts": alone.sum()}
    truth |= {"total correlation": alone.sum() - truth["H"], "perplexity": np.exp(truth["H"]), "top": joint.max()}
    to_prior = mean * np.log(mean / prior) + (1 - mean) * np.log((1 - mean) / (1 - prior))
    units = {"rate": mean, "H": alone, "variance": p.var(0), "I": alone - noise, "KL of the mean": to_prior}
    truth |= {(measure, f"unit {j}"): v for measure, values in units.items() for j, v in enumerate(values)}
    cross = -(mean.sum() * np.log(prior) + (p.shape[1] - mean.sum()) * np.log(1 - prior))
    return truth | {"KL of the mean": cross - truth["H"], "active": (p.var(0) > ACTIVE).sum()}


def bits(rng):
    """Bits of which the input is not known: a bit's mean is the bit."""
    p = machine(rng)
    rows, prior = int(2 ** rng.uniform(6.4, 12)), rng.uniform(0.2, 0.8)
    z = (rng.random((rows, p.shape[1])) < p[rng.integers(len(p), size=rows)]) * 1
    truth = truth_of(p, prior)
    mean = p.mean(0)
    own = {("variance", f"unit {j}"): v for j, v in enumerate(mean * (1 - mean))}
    no = {key: None for key in truth if key == "I" or key[0] == "I"}
    return dict(codes=z, prior=prior), truth | own | no | {"active": (mean * (1 - mean) > ACTIVE).sum()}


def probabilities(rng):
    """The probabilities of the bits of each of a sample of inputs."""
    p = machine(rng)
    rows, prior = int(2 ** rng.uniform(6.4, 11)), rng.uniform(0.2, 0.8)
    q = p[rng.integers(len(p), size=rows)]
    return dict(codes=q, prior=prior, seed=rng), truth_of(p, prior)


def repeated(rng):
    """Bits, drawn several times for each of a sample of inputs."""
    p = machine(rng)
    inputs, times, prior = int(2 ** rng.uniform(5.5, 9)), int(rng.integers(2, 9)), rng.uniform(0.2, 0.8)
    of = np.repeat(np.arange(inputs), times)
    q = p[rng.integers(len(p), size=inputs)][of]
    return dict(codes=(rng.random(q.shape) < q) * 1, prior=prior, inputs=of), truth_of(p, prior)


KINDS = {"indices": one_codebook, "bits": bits, "probabilities": probabilities, "repeated": repeated}


def covered(kind, seed):
    """Of one code, for each measure and part, whether the interval contains the truth, and how wide it is."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    asked, truth = KINDS[kind](rng)
    for row in collapse_report(**asked).itertuples():
        if row.measure in ("I lower bound", "I upper bound"):
            true = truth.get("I" if row.part == "whole" else ("I", row.part))
            above, below = row.measure[2] == "l", row.measure[2] == "u"
        else:
            key = (row.measure, row.rows) if row.measure == "codes" else (row.measure, row.part)
            true = truth.get(row.measure if row.part == "whole" and row.measure != "codes" else key)
            above = below = True
        if true is not None:
            slack = 0.01 if row.measure == "codes" else 1e-9  # a hundredth of a code is none
            good = (not above or row.low <= true + slack) and (not below or true <= row.high + slack)
            part = "whole" if row.part == "whole" else "each unit"
            yield kind, seed, row.measure, part, good, row.high - row.low, row.value - true


def coverage(codes):
    """One row for each kind of code and measure: how many intervals, the share that contains the truth, and their width."""
    found = [row for kind in KINDS for seed in range(codes // len(KINDS)) for row in covered(kind, seed)]
    table = pd.DataFrame(found, columns=["kind", "seed", "measure", "part", "covered", "width", "error"])
    by = table.groupby(["kind", "measure", "part"])
    counts = dict(codes=("seed", "nunique"), intervals=("covered", "size"), covered=("covered", "mean"))
    return by.agg(**counts, width=("width", "median"), bias=("error", "mean")).reset_index()


def main(codes="400", folder=None):
    begun = time.perf_counter()
    table = coverage(int(codes))
    print(table.to_string(index=False, float_format="{:.3f}".format))
    print(f"{int(codes)} codes in {time.perf_counter() - begun:.0f} s")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        table.round(5).to_csv(Path(folder) / "coverage.csv", index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
