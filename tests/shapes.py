"""A walk through every function whose signature has shapes, with jaxtyping and beartype looking at each call.

Run as a program: it prints, as JSON, the functions that have shapes and those that were called. All of it runs on the
reference engine, since a function that is wrapped cannot be compiled.
"""

import functools
import json
import sys

from beartype import beartype
from jaxtyping import install_import_hook

CORE = "layers patterns chains rule wake sleep streams protocol pushforward"
WINGS = "data.images rules.perturbation rules.factorial rules.categorical methods.wake_sleep methods.reweighted engines.compiled"
MEASURES = "measures.exact measures.sampled measures.likelihood measures.inference measures.meaning measures.quality measures.probes"
MODULES = [f"helmholtz_mim.{name}" for name in f"{CORE} {WINGS} {MEASURES} experiments.folk".split()]
shaped, called = set(), set()


def checked(function):
    """beartype for the shapes in a signature, with a note of the functions that have any and of those that kept them."""
    kinds = {name: kind for name, kind in function.__annotations__.items() if "jaxtyping." in repr(kind)}
    function.__annotations__ = kinds
    look = beartype(function)
    if not kinds:
        return look
    name = f"{function.__module__}.{function.__qualname__}".removeprefix("helmholtz_mim.")
    shaped.add(name)

    @functools.wraps(look)
    def noted(*arguments, **options):
        found = look(*arguments, **options)
        called.add(name)
        return found

    return noted


def walk(replicas):
    """Learn, measure and dream with a small machine; every axis has another length."""
    import torch

    import helmholtz_mim as hm
    from helmholtz_mim import chains, protocol, pushforward
    from helmholtz_mim.engines import compiled
    from helmholtz_mim.experiments import folk
    from helmholtz_mim.measures import exact, likelihood, meaning, probes
    from helmholtz_mim.methods import reweighted, wake_sleep
    from helmholtz_mim.rules import categorical, factorial

    g = torch.Generator().manual_seed(0)
    machine = hm.HelmholtzMachine((6, 5, 4), bias=True, replicas=replicas).randomise_(1.0, generator=g)
    patterns = hm.well_formed(6)
    x = patterns.bits[:3]
    z = hm.wake(machine, x, generator=g)
    weights = torch.full(z[0].shape[:-1], 0.25)
    layer, turn = machine.recognition[0], torch.arange(3).expand(*replicas, 3) == 1

    # layers, chains, phases
    hm.encode(x), hm.bernoulli(layer(x), generator=g), layer.log_prob(z[1], x), layer.learn_(z[1], z[0], 0.1)
    layer.learn_(z[1], z[0], 0.1, weights), patterns.means
    hm.dream(machine, 7, generator=g)
    for learn in (hm.learn_generative_, hm.learn_recognition_):
        learn(machine, z, 0.1), learn(machine, z, 0.1, weights)
    list(chains.draws(chains.up(machine), z[0], hm.sample, g))
    pupil = protocol.LocalOptimizer(chains.up(machine), hm.SGD(), 0.1)
    phase = wake_sleep.Phase(pupil.chain, hm.FactorialMIM(threshold=factorial.soft_mean), pupil, g)
    phase.draw(z[0], turn), phase.observe(z), phase.log_prob(z)

    # training
    rules = [hm.sample, lambda layer, p, u: (u < p).to(p), hm.Flip(0.1), hm.FactorialMIM(), hm.FactorialMIM(2.0, 1.0)]
    rules += [hm.FactorialMIM(epsilon=None)]
    rules += [hm.FactorialMIM(threshold=usual) for usual in (factorial.soft_mean, factorial.leave_one_out, factorial.self_consistent)]
    rules += [hm.CategoricalMIM(), hm.CategoricalMIM(0.5, 3.0)]
    for rule in rules:
        config = hm.TrainConfig(1, batch=len(patterns), dreams=5, every=1)
        hm.train(machine, patterns, config, allocate=rule, engine="torch", generator=g)
    rules = hm.Phases(hm.FactorialMIM(), hm.FactorialMIM())
    for options in (
        dict(allocate=rules, optimizer=hm.Adam()),
        dict(allocate=rules, optimizer=hm.SGD(momentum=0.5)),
        dict(method=reweighted.Reweighted(3, "both")),
    ):
        hm.train(machine, patterns, hm.TrainConfig(1, batch=7, fraction=0.5), engine="torch", generator=g, **options)
    hm.train(machine, hm.shifts(3, epoch=9), hm.TrainConfig(1, batch=4), engine="torch", generator=g)
    reweighted.log_importance(machine, z), reweighted.importance(weights, 3)
    categorical.LARGEST = 0  # sampled instead of enumerated
    hm.train(machine, patterns, hm.TrainConfig(1, batch=4), allocate=hm.CategoricalMIM(), engine="torch", generator=g)
    categorical.LARGEST = pushforward.LARGEST

    compiled.words_of(patterns.bits.numpy())

    # measures
    p, q = hm.upward(machine, patterns), hm.downward(machine)
    hm.kl(p[1], q[1]), hm.entropy(p[1]), exact.clamped_kl(p[0], q[0])
    hm.channel(layer), hm.mutual_information(layer, p[0]), hm.exact_report(machine, patterns)
    s = pushforward.double_logits(layer, x)
    pushforward.push_in_logs(torch.zeros(3), s), pushforward.log_table(s)
    hm.sampled_report(machine, patterns, samples=80, generator=g)
    likelihood.ladder(machine, patterns, (1, 2), generator=g), hm.log_likelihood(machine, x, 3, generator=g)
    likelihood.effective_sample_size(machine, x, 3, generator=g), likelihood.exact_log_likelihood(machine, x)
    likelihood.ais_log_likelihood(machine, x, 2, 3, generator=g), likelihood.EarlyStopping(x)(machine)
    folk.left_out(folk.counted(patterns), 1.0, folk.independent(patterns)), folk.smoothed(patterns)
    hm.recognise(machine, patterns, generator=g), hm.recognise(machine, x, 2, generator=g)
    hm.reconstruct(machine, x, 1, 2, generator=g), hm.dream(machine, 7, given=z[-1][..., :1, :], generator=g)
    mask = torch.arange(6) < 2
    hm.complete(machine, x, mask, 7, particles=11, fillings=8, generator=g), hm.exact_completion(machine, x, mask)
    for move in (hm.pseudo_gibbs, hm.metropolis, hm.gibbs):
        hm.complete_gibbs(machine, x, mask, 7, steps=2, move=move, generator=g)
    pixels = probes.descend(machine, z[1], 1, generator=g).gt(0.5).float().flatten(0, -2).repeat(10, 1)
    names = torch.arange(len(pixels)) % 2
    some = pixels, names, pixels, names
    probes.linear_probe(*some), probes.retrieval(*some), probes.code_report(machine, *some, generator=g)
    meaning.causal(machine.replica(0), 2), meaning.predictive(machine, patterns)
    return hm.dream(machine, 9, generator=g)[0]


def look_at_images(dreams):
    """Images, a classifier, and a report about dreams."""
    import torch

    import helmholtz_mim as hm
    from helmholtz_mim.data import images
    from helmholtz_mim.measures import quality

    g = torch.Generator().manual_seed(0)
    grey, labels = images.grey_digits()
    images.binarise(grey[:5], generator=g), images.binarise(grey[:5])
    real, seen = (hm.bernoulli(torch.full((n, 6), 0.5), generator=g) for n in (11, 13))
    classifier = quality.Classifier.trained(real, labels[:11], hidden=(4,), epochs=2)
    classifier(real)
    quality.quality_report(dreams, real, classifier, seen, k=2, resamples=3, generator=g)


if __name__ == "__main__":
    with install_import_hook(MODULES, "shapes.checked"):
        import helmholtz_mim

        for name in helmholtz_mim.__all__:  # loaded when asked for
            getattr(helmholtz_mim, name)
    import shapes  # the same file, as the hook has loaded it

    for replicas in ((), (2, 3)):
        dreams = walk(replicas)
    look_at_images(dreams)
    json.dump({"shaped": sorted(shapes.shaped), "called": sorted(shapes.called)}, sys.stdout)
