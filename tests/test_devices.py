"""A machine on another device: nothing is left behind on the CPU. The device is a pretended one, which computes on the CPU."""

from contextlib import ExitStack
from functools import partial, partialmethod

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from helmholtz_mim import SGD, Adam, HelmholtzMachine, Phases, Reweighted, TrainConfig, WakeSleep, sample, train, up, well_formed
from helmholtz_mim.engines import batched, reference
from helmholtz_mim.methods import wake_sleep
from helmholtz_mim.rule import InTurn, in_turn
from helmholtz_mim.rules.categorical import CategoricalMIM
from helmholtz_mim.rules.factorial import FactorialMIM, leave_one_out, self_consistent, soft_mean
from helmholtz_mim.rules.perturbation import Flip

AWAY = torch.device("meta")  # torch can address it everywhere, and a tensor there has no numbers unless it is one of ours
MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
steps = []  # those that are being taken


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
    assert away or not remote or not steps, f"in the middle of a step, {operation} waits for the device"
    kwargs = kwargs | ({"device": torch.device("cpu")} if asked is not None else {})
    inner = tree_map(lambda a: a.inner if isinstance(a, Remote) else a, (args, kwargs))
    result = operation(*inner[0], **inner[1])
    if not away:
        return result
    return tree_map(lambda a: known[id(a)] if id(a) in known else Remote(a) if isinstance(a, torch.Tensor) else a, result)


class RemoteNumbers(batched.SinglePrecision):
    """Uniform numbers of the CPU, brought over: the pretended device has no generator of its own."""

    def __init__(self, stream, device):
        super().__init__(stream, torch.device("cpu"))
        self.device = device

    def fill_(self, u):
        return u.copy_(super().fill_(torch.empty(u.shape))) if isinstance(u, Remote) else super().fill_(u)

    def __call__(self, shape):
        return super().__call__(shape).to(self.device)


def weights(away, rule, engine, sizes=(8, 5, 3), method=None, optimizer=None, **protocol):
    """The weights after a short training, there or here."""
    machine = HelmholtzMachine(sizes, bias=True).float().randomise_(0.5, generator=torch.Generator().manual_seed(1))
    config = TrainConfig(**{"epochs": 2} | ({} if "fraction" in protocol else {"every": 2}) | protocol)
    with ExitStack() as here:
        if away:
            here.enter_context(Pretend())
            machine = machine.to(AWAY)
            assert machine.prior.weight.device == AWAY
        options = dict(allocate=rule, engine=engine, method=method or WakeSleep(), optimizer=optimizer or SGD())
        train(machine, well_formed(8), config, generator=torch.Generator().manual_seed(2), **options)
        return [value.cpu() for value in machine.state_dict().values()]


def as_there(rule, turn):
    """`in_turn`, which over there does not ask whether any turn has come."""
    found = in_turn(rule, turn)
    return found if isinstance(turn, Remote) or rule is sample else InTurn(rule, turn)


def taken(engine, step, data, turn):
    """A step, in the middle of which nobody may wait for the device."""
    steps.append(step)
    try:
        step(engine, data, turn)
    finally:
        steps.pop()


@pytest.fixture(autouse=True)
def single_precision(monkeypatch):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(batched, "SinglePrecision", RemoteNumbers)
    monkeypatch.setattr(batched, "here", lambda t: False)  # the same arithmetic in both places
    for module in (batched, wake_sleep):
        monkeypatch.setattr(module, "in_turn", as_there)
    for engine in (batched.Batched, reference.Reference):
        monkeypatch.setattr(engine, "step", partialmethod(taken, engine.step))
    yield
    torch.set_default_dtype(before)


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
    "own step": lambda: FactorialMIM(epsilon=0.05),
    "asleep": lambda: Phases(asleep=FactorialMIM()),
    "both phases": lambda: Phases(FactorialMIM(), CategoricalMIM()),
}


@pytest.mark.parametrize("method", [WakeSleep(), Reweighted(2, "both")], ids=str)
@pytest.mark.parametrize("engine", ["torch", "batched"])
@pytest.mark.parametrize("name", RULES)
def test_no_tensor_is_left_behind(name, engine, method):
    options = dict(batch=12, fraction=0.5, method=method)
    there, here = (weights(away, RULES[name](), engine, **options) for away in (True, False))
    assert all(torch.equal(one, other) for one, other in zip(there, here, strict=True))


@pytest.mark.parametrize("optimizer", [SGD(schedule="linear"), SGD(momentum=0.5), Adam(0.01, decay=0.1)], ids=str)
@pytest.mark.parametrize("engine", ["torch", "batched"])
def test_optimisers_leave_nothing_behind(engine, optimizer, monkeypatch):
    for name in ("SGD", "AdamW"):  # the pretended device has no fused kernels
        real = getattr(torch.optim, name)
        plain = partial(lambda make, *args, **options: make(*args, **options | dict(fused=False, foreach=False)), real)
        monkeypatch.setattr(torch.optim, name, plain)
    there, here = (weights(away, FactorialMIM(), engine, batch=12, optimizer=optimizer) for away in (True, False))
    assert all(torch.equal(one, other) for one, other in zip(there, here, strict=True))


def test_wide_machines_estimate_from_samples_there():
    there, here = (weights(away, FactorialMIM(), "torch", (8, 25, 3), batch=36, epochs=1) for away in (True, False))
    assert all(torch.equal(one, other) for one, other in zip(there, here, strict=True))


def test_auto_trains_there_too():
    assert weights(True, FactorialMIM(), "auto", batch=36)[0].any()


def test_a_memory_follows_the_machine():
    machine, rule = HelmholtzMachine((8, 5, 3)), FactorialMIM()
    rule.bind(up(machine))
    with Pretend():
        rule.bind(up(machine.to(AWAY)))
        assert rule.memory.values.device == rule.recall(1).usual.device == AWAY


def test_a_tensor_left_behind_is_noticed():
    with Pretend():
        away = torch.ones(3, device=AWAY)
        assert (away + 1).device == AWAY and (away + torch.tensor(1.0)).cpu().tolist() == [2, 2, 2]
        with pytest.raises(AssertionError, match="mixes tensors of two devices"):
            away + torch.ones(3)


def test_whoever_waits_in_the_middle_of_a_step_is_noticed():
    with Pretend():
        away = torch.ones(3, device=AWAY)
        assert away.all()
        with pytest.raises(AssertionError, match="waits for the device"):
            taken(None, lambda engine, data, turn: bool(data.all()), away, away)
