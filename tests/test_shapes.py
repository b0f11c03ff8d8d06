"""Signatures say the shapes of tensors, and keep them."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from shapes import MODULES, checked
from torch import Tensor

ROOT = Path(__file__).parent.parent
UNCALLED = {  # what others write, and what would fetch MNIST
    *(f"chains.Layer.{name}" for name in ("__call__", "ascent", "buffers", "learn_", "log_prob", "logits")),
    "chains._Rule.__call__",
    "data.images.grey_mnist",
    "protocol.Optimizer.over",
    "rule.Rule.__call__",
    "rules.categorical.Estimated.estimate",
}
FREE = r"(?:dict|Mapping)\[str, Tensor\]|Callable\[.*Tensor\]|Sequence\[Sequence\[Tensor\]\]"  # of any shape
IN_FULL = {"measures.likelihood.ladder"}  # patterns, or what makes patterns


def test_every_shape_is_kept():
    done = subprocess.run([sys.executable, ROOT / "tests/shapes.py"], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert not done.returncode, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert len(found["shaped"]) > 100 and set(found["shaped"]) - set(found["called"]) == UNCALLED


def test_what_says_shapes_is_looked_at():
    paths = [p for p in (ROOT / "helmholtz_mim").rglob("*.py") if "from jaxtyping" in p.read_text(encoding="utf-8")]
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts) for p in paths}
    assert names <= {*MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_say_shapes(module):
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    bare = set()
    for scope in [tree, *(n for n in tree.body if isinstance(n, ast.ClassDef))]:
        for f in scope.body:
            if isinstance(f, ast.FunctionDef) and (not f.name.startswith("_") or f.name in ("__init__", "__call__")):
                every = [a.annotation for a in [*f.args.args, *f.args.posonlyargs, *f.args.kwonlyargs, f.args.vararg] if a]
                said = [ast.unparse(a) for a in (*every, f.returns) if a]
                if any("Tensor" in re.sub(rf"\w+\[Tensor, '[^']*'\]|{FREE}", "", s) for s in said):
                    bare.add(".".join(filter(None, [module.removeprefix("helmholtz_mim."), getattr(scope, "name", ""), f.name])))
    assert bare <= IN_FULL


def test_another_shape_is_noticed():
    @jaxtyped(typechecker=checked)
    def mean(x: Float[Tensor, "batch units"]) -> Float[Tensor, " units"]:
        return x.mean(-1)

    with pytest.raises(TypeCheckError, match="return value"):
        mean(torch.ones(2, 3))
    with pytest.raises(TypeCheckError, match="parameters"):
        mean(torch.ones(3))
