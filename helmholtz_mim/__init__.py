"Helmholtz machines that stay awake: train them, and understand what became of them."

__version__ = "0.1.0"

from helmholtz_mim.chains import down, draw, log_prob, teach_, up
from helmholtz_mim.checkpoint import Checkpoint
from helmholtz_mim.data.images import binarise, digits, grey_digits, grey_mnist, mnist
from helmholtz_mim.data.rhythms import folk_rhythms
from helmholtz_mim.data.worlds import DATASETS, bars, dataset, heartbeat, shifts, well_formed
from helmholtz_mim.engines.reference import NotApplicable
from helmholtz_mim.experiments.comparison import SCHEMES, scheme
from helmholtz_mim.layers import BinaryLayer, bernoulli, encode, states
from helmholtz_mim.machine import HelmholtzMachine, load, save
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
from helmholtz_mim.records import intervals
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
    "Phases", "Reweighted", "Rule", "SCHEMES", "SGD", "Stream", "TrainConfig", "WakeSleep", "ais_log_likelihood",
    "bars", "bernoulli", "binarise", "channel", "clamped_kl", "complete", "complete_gibbs", "dataset", "digits", "down",
    "downward", "draw", "dream", "effective_sample_size", "encode", "entropy", "exact_completion",
    "exact_log_likelihood", "exact_report", "folk_rhythms", "gibbs", "grey_digits", "grey_mnist", "heartbeat",
    "importance", "intervals", "kl", "ladder", "learn_generative_", "learn_recognition_", "load", "log_importance",
    "log_likelihood", "log_prob", "losses", "metropolis", "mnist", "mutual_information", "pseudo_gibbs", "recognise",
    "reconstruct", "sample", "sampled_report", "save", "scheme", "shifts", "states", "teach_", "train", "up", "upward",
    "wake", "well_formed",
]  # fmt: skip
