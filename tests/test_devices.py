"""A machine on another device: nothing is left behind on the CPU. The device is a pretended one, which computes on the CPU."""

from contextlib import ExitStack

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from helmholtz_mim import HelmholtzMachine, Phases, TrainConfig, batches, sample, train, well_formed
from helmholtz_mim.rules.categorical import CategoricalMIM, SparseMIM
from helmholtz_mim.rules.factorial import FactorialMIM, leave_one_out, self_consistent, soft_mean
from helmholtz_mim.rules.perturbation import Flip

AWAY = torch.device("meta")  # torch can address it everywhere, and a tensor there has no numbers unless it is one of ours
MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class Remote(torch.Tensor):
    """A tensor that says it lives on another device."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype, device=AWAY
        )

    def __init__(self, inner):
        self.inner = inner

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return computed(operation, args, kwargs or {})


class Pretend(TorchDispatchMode):
    """While it is on, new tensors may ask for that device."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return computed(operation, args, kwargs or {})


def computed(operation, args, kwargs):
    """Do it on the CPU; refuse what mixes devices, as a real device would (it takes single numbers from the CPU)."""
    tensors = []
    tree_map(lambda a: tensors.append(a) if isinstance(a, torch.Tensor) else None, (args, kwargs))
    remote = [t for t in tensors if isinstance(t, Remote)]
    local = [t for t in tensors if not isinstance(t, Remote)]
    asked = kwargs.get("device")
    if remote and operation not in MOVES:
        assert all(t.dim() == 0 for t in local), f"{operation} mixes tensors of two devices"
    away = bool(remote) if asked is None else torch.device(asked).type == AWAY.type
    if operation is torch.ops.aten.copy_.default:
        away = isinstance(args[0], Remote)
    known = {id(t.inner): t for t in remote}
    if operation is torch.ops.aten._local_scalar_dense.default:
        away = False
    kwargs = kwargs | ({"device": torch.device("cpu")} if asked is not None else {})
    inner = tree_map(lambda a: a.inner if isinstance(a, Remote) else a, (args, kwargs))
    result = operation(*inner[0], **inner[1])
    if not away:
        return result
    return tree_map(lambda a: known[id(a)] if id(a) in known else Remote(a) if isinstance(a, torch.Tensor) else a, result)


class RemoteCoins(batches.Coins):
    """Coins of the CPU, brought over: the pretended device has no generator of its own."""

    def __init__(self, stream, device):
        super().__init__(stream, torch.device("cpu"))
        self.device = device

    def fill_(self, u):
        return u.copy_(super().fill_(torch.empty(u.shape))) if isinstance(u, Remote) else super().fill_(u)

    def __call__(self, shape):
        return super().__call__(shape).to(self.device)


def weights(away, rule, engine, sizes=(8, 5, 3), report=None, **protocol):
    """The weights after a short training, there or here."""
    machine = HelmholtzMachine(sizes, bias=True).float().randomise_(0.5, generator=torch.Generator().manual_seed(1))
    config = TrainConfig(**{"epochs": 2} | ({} if "fraction" in protocol else {"every": 2}) | protocol)
    with ExitStack() as here:
        if away:
            here.enter_context(Pretend())
            machine = machine.to(AWAY)
            assert machine.prior.weight.device == AWAY
        train(machine, well_formed(8), config, allocate=rule, engine=engine, generator=torch.Generator().manual_seed(2))
        return [value.cpu() for value in machine.state_dict().values()]


@pytest.fixture(autouse=True)
def single_precision(monkeypatch):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(batches, "Coins", RemoteCoins)
    yield
    torch.set_default_dtype(before)


GENERATIVE = dict(direction="generative")
RULES = {
    "sample": lambda: sample,
    "flip": lambda: Flip(0.3),
    "threshold": FactorialMIM,
    "tempered": lambda: FactorialMIM(2.0, 1.0),
    "soft mean": lambda: FactorialMIM(threshold=soft_mean),
    "others' mean, tempered": lambda: FactorialMIM(2.0, 1.0, threshold=leave_one_out),
    "self-consistent": lambda: FactorialMIM(threshold=self_consistent),
    "table": CategoricalMIM,
    "half a table, drawn from": lambda: CategoricalMIM(0.5, 10.0),
    "sparse": SparseMIM,
    "both phases": lambda: Phases(FactorialMIM(), CategoricalMIM(**GENERATIVE)),
}


@pytest.mark.parametrize("engine", ["torch", "batched", "reweighted"])
@pytest.mark.parametrize("name", RULES)
def test_no_tensor_is_left_behind(name, engine):
    protocol = dict(batch=12, fraction=0.5, particles=2 if engine != "torch" else 1)
    there, here = (weights(away, RULES[name](), engine, **protocol) for away in (True, False))
    assert all(torch.equal(one, other) for one, other in zip(there, here, strict=True))


def test_wide_machines_estimate_from_samples_there():
    there, here = (weights(away, FactorialMIM(), "torch", (8, 25, 3), batch=36, epochs=1) for away in (True, False))
    assert all(torch.equal(one, other) for one, other in zip(there, here, strict=True))


def test_auto_trains_there_too():
    assert weights(True, FactorialMIM(), "auto", batch=36)[0].any()


def test_a_memory_follows_the_machine():
    machine, rule = HelmholtzMachine((8, 5, 3)), FactorialMIM()
    rule.remember(machine)
    with Pretend():
        rule.remember(machine.to(AWAY))
        assert rule.memory[1].device == AWAY


def test_a_tensor_left_behind_is_noticed():
    with Pretend():
        away = torch.ones(3, device=AWAY)
        assert (away + 1).device == AWAY and (away + torch.tensor(1.0)).cpu().tolist() == [2, 2, 2]
        with pytest.raises(AssertionError, match="mixes tensors of two devices"):
            away + torch.ones(3)
