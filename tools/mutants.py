"""Which changes of the code no test noticed: the share that was noticed in each module, and the changes themselves.

mutmut changes one thing in one function at a time and runs the tests that call it; `make mutants` starts it in a copy of
the tree. Changes that no test can notice are listed apart, with the reason.

usage: python tools/mutants.py FOLDER-OF-THE-COPY FILE-TO-WRITE
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

NOTICED, UNNOTICED, UNCALLED = {1, 3, -24, 24, 36, 152, 255}, {0}, {5, 33}  # exit codes; -24 and after it: it ran on and on
ALIKE = {  # what may differ between two lines that do the same, and why they do
    r"strict=\w+": "the two are as long as each other, by construction",
    r"device=[\w.]+|\.to\([\w.]*device\)|\.cpu\(\)": "there is one device here; tests/test_devices.py has others",
    r"max\([12], (?=\(?BLOCK)": "how many rows at a time changes nothing but memory",
    r"stacklevel=\d, ?": "it says which line a warning names",
}


class Mutant(NamedTuple):
    """A changed line and what it was."""

    name: str
    before: str
    after: str

    @property
    def reason(self) -> str:
        """Why no test can notice it, if that is so."""
        texts = self.before, self.after
        return next((why for part, why in ALIKE.items() if len({re.sub(part, "", text) for text in texts}) == 1), "")

    def __str__(self) -> str:
        return f"{self.name}\n  - {self.before.strip()}\n  + {self.after.strip()}"


def changed(diff: str) -> tuple[str, str]:
    """What a unified diff takes away, and what it puts in its place."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    return tuple(" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")


def row(module: str, codes: dict[str, int], alike: set[str]) -> str:
    """How many of a module's mutants were noticed."""
    noticed, missed, uncalled = ({name for name, code in codes.items() if code in kind} for kind in (NOTICED, UNNOTICED, UNCALLED))
    count = len(noticed | missed - alike)
    share = len(noticed) / max(count, 1)
    return f"{module:24}{share:7.1%} of {count:5} noticed; {len(missed & alike):3} alike, {len(uncalled):3} never called"


def told(results: dict[str, dict[str, int]], survivors: list[Mutant]) -> str:
    """The report: a line for each module, then what survived."""
    alike = {mutant.name for mutant in survivors if mutant.reason}
    lines = [row(module, codes, alike) for module, codes in results.items() if codes]
    lines.append(row("all", {name: code for codes in results.values() for name, code in codes.items()}, alike))
    missed = [str(mutant) for mutant in survivors if not mutant.reason]
    same = [f"{mutant}\n  ({mutant.reason})" for mutant in survivors if mutant.reason]
    return "\n\n".join(["\n".join(lines), "NOT NOTICED", *missed, "ALIKE", *same]) + "\n"


def main(copy: str, out: str) -> None:
    """Read what mutmut left in the copy, and write the report."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    target = Path(out).resolve()
    os.chdir(copy)
    results, survivors = {}, []
    for path in sorted(Path("mutants").rglob("*.py.meta")):
        source = path.relative_to("mutants").with_suffix("")
        codes = {name: code for name, code in json.loads(path.read_text())["exit_code_by_key"].items() if code is not None}
        results[".".join(source.with_suffix("").parts[1:])] = codes
        survivors += [Mutant(name, *changed(get_diff_for_mutant(name, path=source))) for name, code in codes.items() if code in UNNOTICED]
    target.write_text(told(results, survivors), encoding="utf-8")
    print(target.read_text(encoding="utf-8").partition("\n\n")[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
