"""Every recipe is a whole program: it runs by itself, in a folder that holds nothing but the two files they read."""

import json
import os
import re
from pathlib import Path

import pytest
from warm import Program

CELLS = json.loads((Path(__file__).parent.parent / "nbs/recipes.ipynb").read_text(encoding="utf-8"))["cells"]
FILES, *PROGRAMS = ("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code")
TITLES = [m[1] for cell in CELLS if (m := re.match("## (.*)", "".join(cell["source"])))]


def run(program, folder):
    environment = {**os.environ, "TMPDIR": str(folder), "TQDM_DISABLE": "1", "MPLBACKEND": "agg"}
    done = Program("-c", program, cwd=folder, env=environment)
    said, errors = done.communicate()
    assert done.returncode == 0, errors
    return said


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    run(FILES, folder)
    (made,) = folder.iterdir()
    assert {path.name for path in made.iterdir()} == {"mine.csv", "codes.npy"}
    return made


def test_each_recipe_has_a_title():
    assert len(TITLES) == len(PROGRAMS) >= 10


@pytest.mark.parametrize("program", PROGRAMS, ids=TITLES)
def test_recipes_run_by_themselves(program, files, tmp_path):
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    assert run(program, tmp_path).strip()


def test_the_first_recipe_takes_six_lines():
    assert len(PROGRAMS[0].split("\n\n")[-1].splitlines()) == 6
