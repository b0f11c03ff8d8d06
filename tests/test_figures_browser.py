"""The interactive figures of the chapters: what they compute is what Python computes, and mouse and keyboard move them."""

import base64
import re
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
import torch
from helmholtz_mim import (
    BinaryLayer,
    HelmholtzMachine,
    TrainConfig,
    channel,
    entropy,
    exact_report,
    mutual_information,
    train,
    well_formed,
)
from helmholtz_mim.rules.categorical import unit_gains
from helmholtz_mim.data.worlds import SIZES
from helmholtz_mim.experiments.drift import STORY
from helmholtz_mim.interactive.gallery import (
    NEVER,
    channel_inspector,
    collapse_lab,
    cut_machine,
    drift_plane,
    generative_blocks,
    guess_entropies,
    hear_bars,
    interleave_dial,
    latent_switches,
    likelier,
    playground,
)
from helmholtz_mim.streams import splitmix64
from helmholtz_mim.interactive.page import Interactive, source, traits
from traitlets import TraitError

DIGITS = (64, 32, 16, 8)


def machine_of(scale, seed=0, sizes=DIGITS):
    machine = HelmholtzMachine(sizes).randomise_(scale, generator=torch.Generator().manual_seed(seed))
    machine.prior.bias.normal_(generator=torch.Generator().manual_seed(seed))
    return machine


def switches(top=(0, 1, 0, 0, 1, 1, 0, 1)):
    return latent_switches({"alive": machine_of(1.5), "dead": machine_of(0.0)}, top)


def guess():
    machine = HelmholtzMachine(SIZES["well-formed"], replicas=(3,)).randomise_(1.0, generator=torch.Generator().manual_seed(0))
    machine.recognition[1].weight.mul_(8), machine.recognition[2].weight.mul_(8)
    return guess_entropies(exact_report(machine, well_formed(12)))


def random_layer(n_in, n_out, scale=1.0):
    generator, layer = torch.Generator().manual_seed(6), BinaryLayer(n_in, n_out, bias=True).double()
    layer.weight.normal_(std=1.5, generator=generator), layer.bias.normal_(generator=generator)
    layer.weight.mul_(scale), layer.bias.mul_(scale)
    return layer


def inspector():
    return channel_inspector(random_layer(4, 3), x=5)


MEASURES = [f"{name}.recognition.{l}" for name, l in [*(("H", l) for l in range(5)), *(("I", l) for l in range(4)), ("KL", 0)]]
EVERYS = [1, 2, 5, 10, 20, 50, 100]


def runs_of(scheme, rate, everys):
    """Made-up records: four seeds, two records each; the values say from which run they are."""
    rows = [(every, step, replica) for every in everys for step in (1, 2) for replica in range(4)]
    table = pd.DataFrame(rows, columns=["every", "step", "replica"]).assign(scheme=scheme, rate=rate)
    level = 3 - np.log10(table.every.clip(upper=1000)) + (10 * rate if scheme == "flip" else 1)
    noise = np.random.default_rng(0).normal(scale=0.05, size=(len(table), len(MEASURES)))
    values = level.to_numpy()[:, None] * np.linspace(0.5, 1, len(MEASURES)) * (table.every.to_numpy()[:, None] < NEVER) + noise + 1
    return pd.concat([table, pd.DataFrame(values, columns=MEASURES)], axis=1)


def dial_table():
    return pd.concat([runs_of("mim", 0.25, [*EVERYS, NEVER]), *(runs_of("flip", rate, EVERYS) for rate in (0.05, 0.25, 0.5))])


def dial():
    return interleave_dial(dial_table())


def drift():
    return drift_plane({"MIM": [[1, 0.5, 0.4], [2, -9.0, -20.0]]}, STORY)


def board():
    machine, config = HelmholtzMachine(SIZES["well-formed"]), TrainConfig(2)
    runs = train(machine, well_formed(12), config, report=exact_report, generator=torch.Generator().manual_seed(0))
    programs = {"an empty rule": "def rule(layer, p, u):\n    ..."}
    return playground(runs.assign(scheme="wake-sleep"), programs, 1, python="python.js", size=10**6)


def hear():
    bits = torch.tensor([[1.0, 0, 1, 0, 0, 1], [1, 1, 0, 0, 0, 0]])
    return hear_bars({"tunes": [bits], "dreams": [bits.flip(0), torch.tensor([[1.0, 0], [0, 1]])]})


def cuts():
    return cut_machine((2e-11, 2e-9, 4e-4, 1e-9), {1: 5e-5, 10: 2e-5}, "Over [ranks](ranks=3).")


FIGURES = {
    "board": board, "cuts": cuts, "likelier": likelier, "switches": switches, "guess": guess, "inspector": inspector, "dial": dial,
    "drift": drift, "hear": hear,
}  # fmt: skip


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a figure from a file, in a page that may ask nobody for anything and must not complain."""
    pages = []

    def open_page(figure, **options):
        path = tmp_path / "page.html"
        path.write_text(figure.page(), encoding="utf-8")
        page = browser.new_page(**options)
        page.outside, page.complaints = [], []
        page.on("request", lambda r: page.outside.append(r.url) if urlsplit(r.url).scheme not in ("file", "data", "blob") else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
        pages.append(page)
        page.goto(path.as_uri())
        return page

    yield open_page
    for page in pages:
        assert not page.outside and not page.complaints
        page.close()


@pytest.fixture
def alive(browser):
    """A function that shows a figure as a notebook would: `page.evaluate("state")` is what its model holds."""
    pages = []

    def show(figure):
        page = browser.new_page()
        pages.append(page)
        text = base64.b64encode(figure.live._esm.encode()).decode()
        page.evaluate(
            """async ([text, state]) => {
              const { default: figure } = await import(`data:text/javascript;base64,${text}`);
              window.state = state;
              const model = { get: (k) => state[k], set: (k, v) => (state[k] = v), on() {}, save_changes() {} };
              figure.render({ model, el: document.body.appendChild(document.createElement("div")) });
            }""",
            [text, figure.model],
        )
        return page

    yield show
    for page in pages:
        page.close()


def drawn(page):
    """All shapes and their places."""
    return page.eval_on_selector_all("[data-figure] svg", "nodes => nodes.map(n => n.innerHTML).join()")


def slide(page, name, value):
    page.get_by_label(name).fill(str(value))


def drag(page, svg, start, end):
    """Drag over a drawing, from one place to another in its own coordinates."""
    places = svg.evaluate(
        """(node, places) => places.map(([x, y]) => {
          const point = new DOMPoint(x, y).matrixTransform(node.getScreenCTM());
          return [point.x, point.y];
        })""",
        [start, end],
    )
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=4)
    page.mouse.up()


each_figure = pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)


@each_figure
def test_figure_is_small(figure):
    assert len(figure().html()) <= 300_000


@each_figure
def test_everything_has_a_name(opened, figure):
    page = opened(figure())
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('[data-figure] :is(button, input, select, svg)')]
          .filter((e) => !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim())).length"""
    )
    assert unnamed == 0
    assert page.locator("[role=group][aria-label]").count() == 1
    assert page.locator("[aria-live=polite]").count() == 1


@each_figure
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_figure_fits(opened, figure, width):
    page = opened(figure(), viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    beyond = page.evaluate(
        """() => { const right = document.querySelector('[data-figure]').getBoundingClientRect().right + 1;
          return [...document.querySelectorAll('[data-figure] :is(text, span, button, label, output, p, td, th)')]
            .filter((e) => e.getBoundingClientRect().right > right).map((e) => e.textContent); }"""
    )
    assert not beyond


@each_figure
def test_figure_follows_the_theme(opened, figure):
    page, seen = opened(figure()), []
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b", source(figure().name))
    for theme in ("light", "dark"):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        seen.append(page.evaluate("getComputedStyle(document.querySelector('.lively')).getPropertyValue('--lively-recognition')"))
    assert seen == ["#0072b2", "#6cbdf0"]


# What a figure shares with Python


def coin():
    return Interactive("coin", {"p": 0.8}, alt="a coin")


def walk():
    state = dict(sizes=[4, 3, 2], words=[3, 5, 6, 9], lr=0.2, seed=1, before=20, phases=["wake", "sleep"])
    return Interactive("step_machine", state, alt="a small machine")


SHARED = {name: figure for name, figure in FIGURES.items() if name != "board"}
SHARED |= {"coin": coin, "walk": walk, "lab": lambda: collapse_lab(epochs=2)}
MOVES = {  # for each figure: what Python sets, and a value that cannot be
    "likelier": ({"q": 0.123, "t": 0.5, "epsilon": 0.5}, {"q": 1.5}),
    "switches": ({"top": [1, 0, 1, 0, 1, 0, 1, 0], "machine": "dead", "seed": 7}, {"top": [1, 0]}),
    "guess": ({"guesses": [1.0, 2.0, 3.0, 0.5], "revealed": True}, {"guesses": [1.0, 2.0, 3.0, 5.0]}),
    "inspector": ({"x": 3, "sharpness": 2.25, "pull": 1.0}, {"x": 16}),
    "dial": ({"every": 50, "rate": 0.05}, {"every": 3}),
    "hear": ({"playing": "tunes"}, {"playing": "nothing"}),
    "drift": (
        {"stage": "two units", "lr": 0.05, "batch": 4, "use": 0.1, "flip": 0.02, "every": 5}
        | {"falling": True, "layers": "MIM", "seed": 3, "running": False},
        {"every": 3},
    ),
    "cuts": ({"width": 64, "batch": 300, "ranks": 5, "network": 10, "cut": "rows"}, {"ranks": 17}),
    "coin": ({"p": 0.25}, {"p": "half"}),
    "walk": ({"phase": "sleep", "seed": 5, "speed": 20, "running": True}, {"phase": "both"}),
    "lab": ({"scheme": "mim", "every": 7, "lr": 0.05, "speed": 2.5, "seed": 3, "running": False}, {"scheme": "mimm"}),
}


@pytest.fixture
def shared(alive):
    """A function that shows a figure beside a model as a notebook's: `tell(name, value)` is Python setting a trait."""

    def show(figure):
        page = alive(figure)
        page.evaluate(
            """async ([text, state]) => {
              document.body.replaceChildren();
              const { default: figure } = await import(`data:text/javascript;base64,${text}`), heard = {};
              window.state = state;
              const set = (name, value) => ((state[name] = value), heard[`change:${name}`]?.());
              const model = { get: (name) => state[name], set, on: (event, call) => (heard[event] = call), save_changes() {} };
              window.tell = set;
              figure.render({ model, el: document.body.appendChild(document.createElement("div")) });
            }""",
            [base64.b64encode(figure.live._esm.encode()).decode(), figure.model],
        )
        return page

    return show


@pytest.mark.parametrize("name", SHARED)
def test_all_that_is_declared_is_shared(shared, name):
    figure, (moves, wrong) = SHARED[name](), MOVES[name]
    declared, page = traits(figure.name), shared(SHARED[name]())
    assert set(moves) == set(declared["moves"])
    if name == "lab":
        page.wait_for_function("state.history && state.steps === 2 * 905")
    for trait, value in moves.items():
        page.evaluate("([name, value]) => tell(name, value)", [trait, value])
    page.wait_for_function("names => names.every((name) => state[name] != null)", arg=[*moves, *declared["computes"]])
    assert {trait: page.evaluate("name => state[name]", trait) for trait in moves} == moves
    assert page.locator("[role=alert]").inner_text() == ""
    (trait, value), = wrong.items()
    page.evaluate("([name, value]) => tell(name, value)", [trait, value])
    assert page.locator("[role=alert]").inner_text().startswith(f"{trait} cannot be ")
    page.wait_for_function("([name, value]) => JSON.stringify(state[name]) === JSON.stringify(value)", arg=[trait, moves[trait]])


@pytest.mark.parametrize("name", sorted(set(SHARED) - {"lab"}))
def test_each_move_is_drawn(shared, name):
    page = shared(SHARED[name]())
    for trait, value in MOVES[name][0].items():
        before = page.evaluate("document.body.innerHTML")
        settings = "[...document.querySelectorAll('input')].map((i) => `${i.value} ${i.checked}`).join()"
        set_before = page.evaluate(settings)
        page.evaluate("([name, value]) => tell(name, value)", [trait, value])
        assert (page.evaluate("document.body.innerHTML"), page.evaluate(settings)) != (before, set_before), trait


def test_playground_takes_a_program(shared):
    page = shared(board())
    page.evaluate("tell('program', 'def rule(layer, p, u): ...')")
    assert page.locator("textarea").input_value() == page.evaluate("state.program") == "def rule(layer, p, u): ..."
    page.evaluate("tell('program', 3)")
    assert page.locator("[role=alert]:not(:empty)").inner_text().startswith("program cannot be 3: it is a text")


def test_lab_obeys_python(shared):
    page = shared(collapse_lab(epochs=2))
    page.wait_for_function("state.history && state.steps === 2 * 905")
    page.evaluate("tell('scheme', 'mim'), tell('speed', 3), tell('running', true)")
    assert page.get_by_role("radio", name="MIM").is_checked() and page.get_by_role("button", name="Pause").is_visible()
    page.wait_for_function("state.steps > 2 * 905 + 300")
    page.evaluate("tell('running', false)")
    page.wait_for_function("state.history.at(-1).steps === state.steps")
    assert page.evaluate("state.history[0].steps") == 0
    page.evaluate("tell('seed', 9)")
    assert page.locator("select").input_value() == "9"
    page.wait_for_function("state.steps < 2 * 905")


def test_walk_has_the_weights_that_it_draws(shared):
    page = shared(walk())
    page.get_by_role("button", name="Step").click()
    assert page.evaluate("state.now") == ["wake", 0] and page.evaluate("state.patterns.slice(1)") == [None, None]
    weights = page.evaluate("state.weights")
    assert [np.shape(w) for w in weights["recognition"]] == [(5, 3), (4, 2)]
    assert [np.shape(w) for w in weights["generative"]] == [(4, 4), (3, 3), (1, 2)]
    said = float(re.search(r"weight ([+−]\d+\.\d+)", page.inner_text(".walk-weight"))[1].replace("−", "-"))
    assert said in [round(w, 3) for ways in weights.values() for block in ways for row in block for w in row]


def test_module_without_traits_is_refused():
    with pytest.raises(ValueError, match=r"core\.js declares no traits"):
        traits("core")


def test_typo_is_an_error():
    figure = coin()
    with pytest.raises(ValueError, match="no trait 'entropi'; it has p, entropy"):
        figure.value("entropi")
    with pytest.raises(ValueError, match="'entropy' is not computed yet"):
        figure.value("entropy")
    with pytest.raises(AttributeError, match="no trait 'P' to set"):
        figure.live.P = 0.5
    with pytest.raises(TraitError, match="read-only"):
        figure.live.entropy = 0.5
    figure.live.set_state({"entropy": 0.5})
    assert figure.value("entropy") == 0.5


# Likelier than usual?


def test_scores_are_those_of_python(alive):
    page = alive(likelier())
    for q, t, epsilon in [(0.6, 0.2, 0.25), (0.0, 1.0, 0.5), (0.33, 0.34, 0.02), (0.9, 0.9, 0.98), (1.0, 0.01, 0.7)]:
        for name, value in {"now q": q, "usually t": t, "step ε": epsilon}.items():
            slide(page, name, value)
        gains = [unit_gains(torch.tensor([x]), torch.tensor(epsilon))[0] for x in (t, q)]
        assert page.evaluate("state.scores") == pytest.approx((gains[0] - gains[1]).tolist(), abs=1e-12)
        assert ("the unit fires" in page.inner_text(".likelier-verdict")) == (q > t)


def test_map_is_the_triangle_for_every_step(opened):
    page, sides = opened(likelier()), 48
    for epsilon in (0.02, 0.25, 0.5, 0.98):
        slide(page, "step ε", epsilon)
        path = page.locator("svg").nth(1).locator("path.recognition").get_attribute("d")
        corners = re.findall(r"M([\d.]+) ([\d.]+)h", path)
        assert len(corners) == sides * (sides - 1) // 2
        assert all(float(x) - 26 > 200 - (float(y) - 8) - 200 / sides + 0.1 for x, y in corners)


def test_points_can_be_dragged(opened):
    page = opened(likelier())
    hill, square = page.locator("svg").nth(0), page.locator("svg").nth(1)
    before = drawn(page)
    drag(page, hill, (30 + 0.2 * 360, 100), (30 + 0.8 * 360, 100))
    assert page.get_by_label("usually t").input_value() == "0.8" and page.get_by_label("now q").input_value() == "0.6"
    assert drawn(page) != before and "is silent" in page.inner_text(".likelier-verdict")
    drag(page, square, (26 + 0.5 * 200, 8 + 100), (26 + 0.9 * 200, 8 + 0.7 * 200))
    assert [page.get_by_label(name).input_value() for name in ("now q", "usually t")] == ["0.9", "0.3"]
    assert "the unit fires" in page.inner_text(".likelier-verdict") and "never disagreed" in page.inner_text(".likelier-verdict")


def test_points_obey_the_keyboard(opened):
    page = opened(likelier(q=0.5, t=0.5))
    before = drawn(page)
    assert "is silent" in page.inner_text(".likelier-verdict")
    page.get_by_label("now q").focus()
    page.keyboard.press("ArrowRight")
    assert "0.51 is likelier than the usual 0.50: the unit fires" in page.inner_text(".likelier-verdict")
    assert drawn(page) != before
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("End")
    assert "is silent" in page.inner_text(".likelier-verdict")


# Latent switches


def unpacked(block):
    numbers = np.frombuffer(base64.b64decode(block["data"]), np.int8) * block["scale"]
    return numbers.astype(np.float32).astype(float).reshape(block["shape"])


def dreamt(blocks, top, key, count):
    """Dreams from held top bits with the weights that are in the page: pixel probabilities and bits."""
    widths = [block.shape[1] for block in blocks[:-1]]
    uniforms = (splitmix64(np.uint64(key), np.arange(1, count * sum(widths) + 1, dtype=np.uint64)) >> np.uint64(11)) * 2.0**-53
    uniforms, z = uniforms.reshape(count, -1), np.tile(np.array(top, float), (count, 1))
    for layer in reversed(range(len(widths))):
        p = 1 / (1 + np.exp(-(z @ blocks[layer][:-1] + blocks[layer][-1])))
        u, uniforms = np.split(uniforms, [widths[layer]], axis=1)
        z = (u < p).astype(float)
    return p, z


def test_dreams_are_those_of_python(alive):
    figure = switches()
    page, blocks = alive(figure), [unpacked(block) for block in figure.state["machines"]["alive"]]
    top = figure.state["top"]
    for unit in (None, 0, 7, 0):
        if unit is not None:
            page.get_by_label(f"switch {unit + 1}").click()
            top[unit] = 1 - top[unit]
        assert page.evaluate("state.top.map(Number)") == top
        assert page.evaluate("state.dream") == dreamt(blocks, top, 1, 1)[1][0].tolist()
        assert page.evaluate("state.mean") == pytest.approx(dreamt(blocks, top, 2**32, 400)[0].mean(0).tolist(), abs=1e-9)


def test_page_has_the_weights_with_eight_bits():
    machine, state = machine_of(1.5), switches().state
    for block, exact in zip(state["machines"]["alive"], generative_blocks(machine)):
        error = np.abs(unpacked(block) - exact.numpy()).max()
        assert error <= exact.abs().max().item() / 254 * 1.001


def test_large_machine_fits_into_a_page():
    machine = machine_of(0.5, sizes=SIZES["mnist"])
    assert len(latent_switches({"MIM": machine}, [0] * 50).html()) <= 300_000


def moved(page):
    return float(re.search(r"moves ([\d.]+) of 64", page.inner_text(".switches-words"))[1])


def test_switches_obey_the_mouse(opened):
    page = opened(switches())
    before, alive = drawn(page), moved(page)
    page.get_by_label("switch 3").click()
    assert drawn(page) != before and "Switch 3 is on" in page.inner_text(".switches-words")
    assert page.locator("rect.changed").count() > 0
    page.get_by_text("dead").click()
    assert moved(page) == 0.0 < alive
    page.get_by_label("switch 4").click()
    assert page.locator("rect.changed").count() == 0


def test_switches_obey_the_keyboard(opened):
    page = opened(switches(), reduced_motion="reduce")
    again = page.get_by_role("button", name="Dream again")
    again.focus()
    mean = page.locator("figure svg").nth(1).inner_html()
    before = drawn(page)
    page.keyboard.press("Enter")
    assert drawn(page) != before and page.locator("figure svg").nth(1).inner_html() == mean
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    was = page.get_by_label("switch 1").is_checked()
    page.keyboard.press("Space")
    assert page.get_by_label("switch 1").is_checked() != was
    assert f"Switch 1 is {'off' if was else 'on'}" in page.inner_text(".switches-words")
    assert page.locator("[aria-live]").inner_text() == page.inner_text(".switches-words")


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_dream_comes_down_layer_by_layer(opened, motion):
    page = opened(switches(), reduced_motion=motion)
    page.get_by_role("button", name="Dream again").click()
    ink = "document.querySelectorAll('figure svg')[0].querySelectorAll('[fill-opacity=\"1.000\"]').length"
    assert (page.evaluate(ink) > 0) == (motion == "reduce")
    page.wait_for_function(f"{ink} > 0")


# Guess, then see


def test_truth_is_that_of_the_report(opened):
    machine = HelmholtzMachine(SIZES["well-formed"], replicas=(3,)).randomise_(1.0, generator=torch.Generator().manual_seed(0))
    report = exact_report(machine, well_formed(12))
    page = opened(guess_entropies(report))
    page.get_by_role("button", name="Reveal").click()
    said = [float(re.search(r"truth (\d+\.\d+)", text)[1]) for text in page.locator("output").all_inner_texts()[:4]]
    truth = report.query("measure == 'H' and direction == 'recognition' and layer > 0").groupby("layer").value.mean()
    assert said == pytest.approx(truth.to_numpy()[::-1], abs=0.0051)


def test_guesses_obey_the_mouse(opened):
    page = opened(guess(), viewport={"width": 900, "height": 900})
    row = page.locator(".layer").nth(1).locator("svg")
    assert page.locator(".truth").first.is_hidden()
    before = drawn(page)
    drag(page, row, (240, 17), (125, 17))
    expected = 125 / 500 * 12 * np.log(2)
    assert float(page.get_by_label("entropy of layer 3").input_value()) == pytest.approx(expected, abs=0.02)
    assert drawn(page) != before and f"{expected:.2f} of 4.16" in page.locator("output").nth(1).inner_text()
    page.get_by_role("button", name="Reveal").click()
    assert page.locator(".truth").first.is_visible() and "off by" in page.inner_text(".guess-verdict")
    revealed = drawn(page)
    drag(page, row, (125, 17), (20, 17))
    assert drawn(page) == revealed
    page.get_by_role("button", name="Guess again").click()
    assert page.locator(".truth").first.is_hidden()


def test_guesses_obey_the_keyboard_and_are_scored(opened):
    figure = guess_entropies(exact_report(HelmholtzMachine(SIZES["well-formed"]), well_formed(12)))
    silent = [[6.8]] + [[n * np.log(2) / 20] for n in SIZES["well-formed"][1:]]
    page = opened(Interactive("guess", figure.state | {"entropies": silent}, alt="a guess"))
    score = {}
    for press in ("End", "Home"):
        for layer in range(1, 5):
            page.get_by_label(f"entropy of layer {layer}").focus()
            page.keyboard.press(press)
        page.get_by_role("button", name="Reveal").focus()
        page.keyboard.press("Enter")
        score[press] = page.inner_text(".guess-verdict")
        assert page.locator("[aria-live]").inner_text() == score[press]
        page.keyboard.press("Enter")
    most = np.array(SIZES["well-formed"][1:]) * np.log(2)
    assert f"off by {(0.95 * most).mean():.2f} nats" in score["End"] and "Most of what you expected" in score["End"]
    assert f"off by {(0.05 * most).mean():.2f} nats" in score["Home"] and "You saw it coming" in score["Home"]


# Channel inspector


@pytest.mark.parametrize("shape", [(4, 3), (2, 4)])
def test_information_is_that_of_python(alive, shape):
    n_in, n_out = shape
    page, even = alive(channel_inspector(random_layer(*shape))), torch.full((2**n_in,), 2.0**-n_in)
    favourite = (even @ channel(random_layer(*shape))).argmax()
    bits = torch.tensor([int(bit) for bit in f"{favourite:0{n_out}b}"])
    for sharpness, pull in [(1, 0), (0, 0), (0.3, 0), (5, 0), (5, 8), (1.7, 2.5), (0, 8)]:
        slide(page, "sharpness", sharpness)
        slide(page, "pull to one state", pull)
        layer = random_layer(*shape, scale=sharpness)
        layer.bias += pull * (2 * bits - 1)
        h, i = entropy(even @ channel(layer)), mutual_information(layer, even)
        got = page.evaluate("[state.H, state.I, state.noise]")
        assert got == pytest.approx([h.item(), i.item(), (h - i).item()], abs=1e-6)


def test_rows_are_those_of_the_channel(opened):
    page, layer = opened(inspector()), random_layer(4, 3)
    shades = page.eval_on_selector_all("rect.cell", "cells => cells.map(c => +c.getAttribute('fill-opacity'))")
    assert shades == pytest.approx(channel(layer).flatten().tolist(), abs=6e-4)
    kls = page.eval_on_selector_all("rect.apart", "bars => bars.map(b => +b.getAttribute('width'))")
    scale = 66 / (3 * np.log(2))
    assert np.mean(kls) == pytest.approx(scale * mutual_information(layer, torch.full((16,), 1 / 16)).item(), abs=0.01)


def test_inspector_obeys_the_mouse(opened):
    page = opened(inspector())
    grid, before = page.locator("svg.grid"), drawn(page)
    drag(page, grid, (100, 14 + 12 * 9.5), (100, 14 + 12 * 9.5))
    assert page.get_by_label("input state x").input_value() == "9"
    assert drawn(page) != before and "1001 goes to" in page.inner_text(".channel")
    seen = {page.inner_text(".channel-verdict")}
    for name, value in (("sharpness", 0.1), ("sharpness", 5), ("pull to one state", 8)):
        slide(page, name, value)
        seen.add(page.inner_text(".channel-verdict"))
    slide(page, "sharpness", 1)
    seen.add(page.inner_text(".channel-verdict"))
    assert len(seen) >= 3


def test_inspector_obeys_the_keyboard(opened):
    page = opened(inspector())
    page.locator("svg.grid").focus()
    page.keyboard.press("ArrowDown")
    assert page.get_by_label("input state x").input_value() == "6"
    assert page.locator("[aria-live]").inner_text().startswith("0110 goes to")
    page.keyboard.press("End")
    assert "1111 goes to" in page.inner_text(".channel")
    page.get_by_label("sharpness").focus()
    page.keyboard.press("Home")
    assert "0.000 nats" in page.locator("dd").nth(2).inner_text()
    assert "noise" in page.inner_text(".channel-verdict")


# Interleave dial


def test_dial_has_the_means_and_paired_differences():
    state, table = dial().state, dial_table()
    column = MEASURES[-1]
    flips = table[(table.scheme == "flip") & (table.rate == 0.5) & (table.every == 20)].groupby("replica")[column].mean()
    never = table[table.every == NEVER].groupby("replica")[column].mean()
    point = state["flip"][2]["KL"][EVERYS.index(20)]
    assert point["mean"] == pytest.approx(flips.mean(), abs=1e-4) and state["none"]["KL"] == pytest.approx(never.mean(), abs=1e-4)
    difference, half = (flips - never).mean(), 3.182446 * (flips - never).sem()
    assert [point["difference"], point["low"], point["high"]] == pytest.approx([difference, difference - half, difference + half], abs=1e-3)


def shown(page, plot=0):
    return [float(text.split()[-1]) for text in page.locator(".values").nth(plot).locator("span").all_inner_texts()]


def test_dial_obeys_the_mouse(opened):
    page, state = opened(dial(), viewport={"width": 900, "height": 900}), dial().state
    plot, before = page.locator("svg").nth(1), drawn(page)
    drag(page, plot, (140, 60), (14 + 252 * 5 / 6, 60))
    assert page.get_by_label("the rule decides in").input_value() == "5" and "In every 50th step" in page.inner_text(".dial-verdict")
    assert drawn(page) != before
    expected = [state["mim"]["I"][5]["mean"], state["flip"][1]["I"][5]["mean"], state["none"]["I"]]
    assert shown(page, 1) == pytest.approx(expected, abs=0.0051)


def test_dial_obeys_the_keyboard(opened):
    page, state = opened(dial()), dial().state
    page.get_by_label("the rule decides in").focus()
    page.keyboard.press("Home")
    assert shown(page)[0] == pytest.approx(state["mim"]["H"][0]["mean"], abs=0.0051)
    before = drawn(page)
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert drawn(page) != before and "Perturbation at 0.5" in page.locator("[aria-live]").inner_text()
    assert shown(page)[1] == pytest.approx(state["flip"][2]["H"][0]["mean"], abs=0.0051)


# Bars to be heard


def test_bars_sound_when_asked(opened, ear):
    page = opened(hear())
    page.evaluate(ear)
    assert "tunes" in page.inner_text(".hear-group >> nth=0 >> .name") and "dreams: 2 notes" in page.inner_text("[data-figure]")
    page.get_by_role("button", name="Listen: dreams").click()
    times, pitches = zip(*page.evaluate("clicks"))
    assert np.allclose(np.array(times) - 5.1, np.array([0, 1, 6, 8, 11]) / 8)
    assert np.allclose(pitches, 220 * 2 ** (np.array([4, 4, 2, 2, 2]) / 12))
    assert page.locator(".bar").all_inner_texts() == ["●·●··●", "●●····", "●●····", "●·●··●"]
    page.get_by_role("button", name="Stop: dreams").click()
    assert page.get_by_role("button", name="Listen: dreams").is_visible()
