"""Helmholtz machines that stay awake: train them, and understand what became of them.

Examples in docstrings take `import torch` and `from helmholtz_mim import *` for granted.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from helmholtz_mim.chains import down, draw, log_prob, teach_, up
    from helmholtz_mim.checkpoint import Checkpoint
    from helmholtz_mim.data.images import binarise, digits, grey_digits, grey_mnist, mnist
    from helmholtz_mim.data.rhythms import folk_rhythms
    from helmholtz_mim.data.sources import Source, patterns_of, read_gaps
    from helmholtz_mim.data.worlds import DATASETS, bars, dataset, heartbeat, shifts, well_formed
    from helmholtz_mim.engines.reference import NotApplicable
    from helmholtz_mim.experiments.comparison import SCHEMES, scheme
    from helmholtz_mim.layers import BinaryLayer, bernoulli, encode, states
    from helmholtz_mim.machine import HelmholtzMachine, load, save
    from helmholtz_mim.measures.codes import collapse_report, plot_codes, verdict
    from helmholtz_mim.measures.exact import clamped_kl, exact_report, mutual_information
    from helmholtz_mim.measures.inference import (
        Completion,
        complete,
        complete_gibbs,
        exact_completion,
        gibbs,
        metropolis,
        pseudo_gibbs,
        recognise,
        reconstruct,
    )
    from helmholtz_mim.measures.likelihood import (
        EarlyStopping,
        ais_log_likelihood,
        effective_sample_size,
        exact_log_likelihood,
        ladder,
        log_likelihood,
    )
    from helmholtz_mim.measures.sampled import sampled_report
    from helmholtz_mim.methods.reweighted import Reweighted, importance, log_importance
    from helmholtz_mim.methods.wake_sleep import WakeSleep
    from helmholtz_mim.patterns import Patterns
    from helmholtz_mim.protocol import SGD, Adam, Optimizer, TrainConfig
    from helmholtz_mim.pushforward import channel, downward, entropy, kl, upward
    from helmholtz_mim.records import intervals, over_replicas
    from helmholtz_mim.rule import Kernel, Phases, Rule, sample
    from helmholtz_mim.rules.categorical import CategoricalMIM
    from helmholtz_mim.rules.factorial import FactorialMIM
    from helmholtz_mim.rules.perturbation import Flip
    from helmholtz_mim.sleep import dream, learn_recognition_
    from helmholtz_mim.streams import Stream
    from helmholtz_mim.training import ENGINES, Interrupted, losses, train
    from helmholtz_mim.wake import learn_generative_, wake

__all__ = [
    "Adam", "BinaryLayer", "CategoricalMIM", "Checkpoint", "Completion", "DATASETS", "ENGINES", "EarlyStopping",
    "FactorialMIM", "Flip", "HelmholtzMachine", "Interrupted", "Kernel", "NotApplicable", "Optimizer", "Patterns",
    "Phases", "Reweighted", "Rule", "SCHEMES", "SGD", "Source", "Stream", "TrainConfig", "WakeSleep",
    "ais_log_likelihood", "bars", "bernoulli", "binarise", "channel", "clamped_kl", "collapse_report", "complete",
    "complete_gibbs", "dataset", "digits", "down", "downward", "draw", "dream", "effective_sample_size", "encode",
    "entropy", "exact_completion", "exact_log_likelihood", "exact_report", "folk_rhythms", "gibbs", "grey_digits",
    "grey_mnist", "heartbeat", "importance", "intervals", "kl", "ladder", "learn_generative_", "learn_recognition_",
    "load", "log_importance", "log_likelihood", "log_prob", "losses", "metropolis", "mnist", "mutual_information",
    "over_replicas", "patterns_of", "plot_codes", "pseudo_gibbs", "read_gaps", "recognise", "reconstruct", "sample",
    "sampled_report", "save", "scheme", "shifts", "states", "teach_", "train", "up", "upward", "verdict", "wake",
    "well_formed",
]  # fmt: skip

_HOMES = {
    "chains": "down draw log_prob teach_ up",
    "checkpoint": "Checkpoint",
    "data.images": "binarise digits grey_digits grey_mnist mnist",
    "data.rhythms": "folk_rhythms",
    "data.sources": "Source patterns_of read_gaps",
    "data.worlds": "DATASETS bars dataset heartbeat shifts well_formed",
    "engines.reference": "NotApplicable",
    "experiments.comparison": "SCHEMES scheme",
    "layers": "BinaryLayer bernoulli encode states",
    "machine": "HelmholtzMachine load save",
    "measures.codes": "collapse_report plot_codes verdict",
    "measures.exact": "clamped_kl exact_report mutual_information",
    "measures.inference": "Completion complete complete_gibbs exact_completion gibbs metropolis pseudo_gibbs recognise reconstruct",
    "measures.likelihood": "EarlyStopping ais_log_likelihood effective_sample_size exact_log_likelihood ladder log_likelihood",
    "measures.sampled": "sampled_report",
    "methods.reweighted": "Reweighted importance log_importance",
    "methods.wake_sleep": "WakeSleep",
    "patterns": "Patterns",
    "protocol": "SGD Adam Optimizer TrainConfig",
    "pushforward": "channel downward entropy kl upward",
    "records": "intervals over_replicas",
    "rule": "Kernel Phases Rule sample",
    "rules.categorical": "CategoricalMIM",
    "rules.factorial": "FactorialMIM",
    "rules.perturbation": "Flip",
    "sleep": "dream learn_recognition_",
    "streams": "Stream",
    "training": "ENGINES Interrupted losses train",
    "wake": "learn_generative_ wake",
}  # where each name is defined; loaded when it is asked for
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


class _Package(ModuleType):
    """A package whose names are loaded when they are first asked for.

    A class, and no function `__getattr__`, since type checkers believe such a function to answer for any name; and since
    `wake`, the function, has the name of its module, which the import system puts here once it is loaded.
    """

    def __getattr__(self, name: str) -> object:
        home = f"{__name__}.{_HOME.get(name, name)}"
        if name.startswith("_") or (name not in _HOME and name not in _ROOMS):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=self)
        found = import_module(home)
        if name in _HOME:
            found = getattr(found, name)
            setattr(self, name, found)
        return found

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})

    @property
    def wake(self) -> object:
        return getattr(import_module(f"{__name__}.wake"), "wake")  # noqa: B009

    @wake.setter
    def wake(self, module: ModuleType) -> None:
        "The module keeps its place in `sys.modules`; here the name is the function's."


_ROOMS = {home.split(".")[0] for home in _HOMES} | {"experiments", "figures", "tables", "interactive", "commands", "cli"}
sys.modules[__name__].__class__ = _Package
