"""Make every stored result of the small worlds anew, from nothing, and say what is not as it was stored.

They are made in a folder beside, where an interrupted run goes on unless the code has changed since, and take the place of
what is stored when all of a part are there. With --check nothing is replaced, and a difference is a failure.

usage: python tools/results.py [--check] [PART ...]
"""

import argparse
import gzip
import os
import shutil
import sys
import time
from pathlib import Path

from helmholtz_mim.commands.outputs import alone
from helmholtz_mim.experiments.comparison import dynamics, perform
from helmholtz_mim.experiments.drift import drift_runs, drift_store, rouse
from helmholtz_mim.experiments.folk import folk_runs, folk_store, rehearse
from helmholtz_mim.experiments.rivals import small_results
from helmholtz_mim.store import digest
from helmholtz_mim.sweeps import shared, sweep

ROOT = Path(__file__).parent.parent
STORED, BESIDE = Path("results"), Path("_build/results")
PROCESSES = 2


def beside() -> Path:
    """Where results are made: a folder of its own for every state of the package."""
    code = sorted((ROOT / "helmholtz_mim").rglob("*.py"))
    return BESIDE / digest(*(path.read_bytes() for path in code))


def parts(folder: Path) -> dict[str, tuple]:
    """Of each part its store and its runs."""
    return small_results(folder) | {
        "drift": (drift_store(folder / "drift"), drift_runs()),
        "folk": (folk_store(folder / "folk"), [*folk_runs().values()]),
    }


def complete(name: str, folder: Path) -> None:
    """Perform what is missing of a part."""
    if name == "dynamics":  # whose runs go on from the machines of the first
        dynamics(folder / name)
    else:
        store, runs = parts(folder)[name]
        sweep(store, runs, {"drift": rouse, "folk": rehearse}.get(name, perform))


def timed(perform, *arguments) -> tuple[float, float]:
    """Seconds that something took, and those of the processors, with all processes that it began."""
    before = os.times()
    perform(*arguments)
    after = os.times()
    return after.elapsed - before.elapsed, sum(after[:4]) - sum(before[:4])


def content(path: Path) -> bytes | None:
    """What a file says, whatever packed it; None if there is no such file."""
    if not path.exists():
        return None
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def differences(made: Path, stored: Path) -> list[str]:
    """The names of files of two folders that are not in both, or are not the same bit by bit."""
    names = {path.name for folder in (made, stored) if folder.exists() for path in folder.iterdir()}
    return sorted(name for name in names if content(made / name) != content(stored / name))


def take_place(made: Path, stored: Path) -> None:
    """Let the files of one folder be those of another."""
    shutil.rmtree(stored, ignore_errors=True)
    shutil.copytree(made, stored)


def main(arguments: list[str]) -> int:
    """Make, compare, and replace unless only a check was asked for; 1 if a check found a difference."""
    parser = argparse.ArgumentParser(prog="make results", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="replace nothing, and fail if anything differs")
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(parts(STORED))}; all if none is named")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.parts) - set(parts(STORED)):
        parser.error(f"there is no part {unknown.pop()}: leave it out for all of them, or name one of {', '.join(parts(STORED))}")
    made, different, begun = beside(), [], time.perf_counter()
    for name in chosen.parts or parts(STORED):
        with alone(made / name), shared(jobs=PROCESSES):
            print(f"{name}: {len(parts(made)[name][1])} runs", end=", ", flush=True)
            wall, cpu = timed(complete, name, made)
        found = differences(made / name, STORED / name)
        print(f"{wall:.0f} s ({cpu:.0f} s of processors): {f'{len(found)} files differ' if found else 'as stored'}", flush=True)
        different += [f"{name}/{file}" for file in found]
        if found and not chosen.check:
            take_place(made / name, STORED / name)
    shutil.rmtree(made)
    print(f"{time.perf_counter() - begun:.0f} s in all", *(different if chosen.check else ()), sep="\n  ")
    return bool(different and chosen.check)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted: what is finished is kept, and the same command goes on")
