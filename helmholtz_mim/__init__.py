__version__ = "0.1.0"

import sys

from helmholtz_mim.engines.batched import EarlyStopping
from helmholtz_mim.rules.categorical import CategoricalMIM, SparseMIM
from helmholtz_mim.checkpoint import Checkpoint
from helmholtz_mim.experiments.comparison import SCHEMES, scheme
from helmholtz_mim.data.worlds import DATASETS, bars, dataset, heartbeat, shifts, well_formed
from helmholtz_mim.patterns import Patterns
from helmholtz_mim.engines.compiled import Twin
from helmholtz_mim.measures.likelihood import (
    ais_log_likelihood,
    effective_sample_size,
    exact_log_likelihood,
    ladder,
    log_likelihood,
)
from helmholtz_mim.measures.exact import channel, clamped_kl, downward, entropy, exact_report, kl, mutual_information, upward
from helmholtz_mim.rules.factorial import FactorialMIM
from helmholtz_mim.data.images import binarise, digits, grey_digits, grey_mnist, mnist
from helmholtz_mim.layers import BinaryLayer, bernoulli, encode, states
from helmholtz_mim.machine import HelmholtzMachine, load, save
from helmholtz_mim.rules.perturbation import Flip
from helmholtz_mim.methods.reweighted import importance, learn_reweighted_, log_importance
from helmholtz_mim.records import intervals
from helmholtz_mim.measures.sampled import sampled_report
from helmholtz_mim.sleep import dream, learn_recognition_
from helmholtz_mim.training import ENGINES, Interrupted, NotApplicable, Phases, Stream, TrainConfig, losses, train
from helmholtz_mim.wake import learn_generative_, sample, wake

__all__ = [name for name, value in list(globals().items()) if not (name.startswith("_") or isinstance(value, type(sys)))]
