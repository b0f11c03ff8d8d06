"""The plane of drift: its units are those of Python, its theory too, and each sentence beside it leads to the state that it names."""

import base64
import re
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import erfcx

from helmholtz_mim.experiments.drift import STORY, Forces, carriers, evolve, excess, expected_step, named_states, predicted_entropy
from helmholtz_mim.experiments.drift import pressure, unit_step
from helmholtz_mim.interactive.gallery import drift_plane
from helmholtz_mim.interactive.page import source
from helmholtz_mim.streams import splitmix64, unit_interval

REAL = {"wake-sleep": [[1, 0.5, 0.4], [2, -9.0, -20.0], [3, 3.0, 3.1]], "MIM": [[1, 0.1, 0.0], [2, -0.5, -0.4]]}
STORIES = [(stage["name"], words, forces) for stage in STORY for words, forces in named_states(stage).items()]
FORCES = [Forces(), Forces(batch=3, use=0.3), Forces(flip=0.1, every=3), Forces(every=5, use=0.02)]
FORCES += [Forces(lr=0.5, use=0.2, flip=0.05, every=1)]


def plane(**settings):
    return drift_plane(REAL, STORY, **settings)


@pytest.fixture
def units(browser):
    """A page that has the walk of units.js as `units`."""
    page = browser.new_page()
    text = base64.b64encode(source("units").encode()).decode()
    page.evaluate("async (text) => (window.units = await import(`data:text/javascript;base64,${text}`), 0)", text)
    yield page
    page.close()


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a figure from a file, in a page that may ask nobody for anything and must not complain."""
    pages = []

    def open_page(figure, address="", still=True, **options):
        path = tmp_path / "page.html"
        path.write_text(figure.page(), encoding="utf-8")
        page = browser.new_page(reduced_motion="reduce" if still else "no-preference", **options)
        page.outside, page.complaints = [], []
        page.on("request", lambda r: page.outside.append(r.url) if urlsplit(r.url).scheme not in ("file", "data", "blob") else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
        pages.append(page)
        page.goto(path.as_uri() + address)
        page.wait_for_function("+document.querySelector('[data-steps]')?.dataset.steps > 0")
        return page

    yield open_page
    for page in pages:
        assert not page.outside and not page.complaints
        page.close()


def as_js(forces):
    return {name: getattr(forces, name) for name in ("lr", "batch", "use", "flip", "every", "falling")}


# The same numbers in both languages


@pytest.mark.parametrize("forces", FORCES)
@pytest.mark.parametrize(("size", "uses"), [(1, 1), (2, 1), (8, 3)])
def test_same_uniforms_same_logits(units, forces, size, uses):
    steps, machines, rng = 200, 4, np.random.default_rng(size)
    u = rng.random((steps, 4, forces.batch, machines, size))
    b, r = rng.normal(size=(2, machines, size))
    usual = np.full_like(b, 0.5)
    begun = dict(b=b.ravel().tolist(), r=r.ravel().tolist(), usual=usual.ravel().tolist(), units=size, uses=uses)
    js = units.evaluate(
        """([state, u, forces]) => {
          const walk = { ...state, ...Object.fromEntries(["b", "r", "usual"].map((name) => [name, Float64Array.from(state[name])])) };
          const turn = (step) => forces.every > 0 && (step + 1) % forces.every === 0;
          u.forEach((numbers, step) => units.unitStep(walk, numbers, forces, forces.lr / (1 + step / 1000), turn(step)));
          return [[...walk.b], [...walk.r], [...walk.usual]];
        }""",
        [begun, u.reshape(steps, -1).tolist(), as_js(forces)],
    )
    for step, numbers in enumerate(u):
        turn = forces.every > 0 and (step + 1) % forces.every == 0
        b, r, usual = unit_step(b, r, usual, numbers, forces, forces.lr / (1 + step / 1000), turn, uses)
    assert_allclose(js, [x.ravel() for x in (b, r, usual)], rtol=0, atol=1e-9)


def test_same_carriers(units):
    b, r = np.random.default_rng(0).integers(-2, 3, (2, 30, 8))
    for uses in (0, 1, 3, 8):
        js = units.evaluate("([b, r, uses]) => [...units.carriers(b, r, 8, uses)]", [b.ravel().tolist(), r.ravel().tolist(), uses])
        assert (np.reshape(js, (30, 8)) == carriers(b, r, uses)).all()


def test_erfcx_has_ten_digits(units):
    x = np.concatenate([np.linspace(-20, 30, 5001), [1e3, 1e8]])
    js = units.evaluate("(x) => x.map((one) => units.erfcx(one))", x.tolist())
    assert_allclose(np.array(js, float), erfcx(x), rtol=1e-10)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("forces", FORCES)
def test_same_theory(units, forces, told):
    theta, apart = np.linspace(-16, 16, 321, retstep=True)
    density = np.exp(-((theta - 1) ** 2))
    js = units.evaluate(
        """([theta, density, forces, told, apart]) => {
          const terms = units.pressure(theta, forces, 0.3, told);
          return { terms, density: [...units.evolve(density, terms, 2.5, apart)],
            steps: theta.map((s) => units.expectedStep(s, 0.7 - s, forces, 0.3)),
            excess: theta.map((s) => units.excess(units.firing(s), forces, 0.3, told)) };
        }""",
        [theta.tolist(), density.tolist(), as_js(forces), told, apart],
    )
    push, noise = pressure(theta, forces, 0.3, told)
    assert_allclose(js["terms"][0], push, rtol=1e-9, atol=1e-9)
    assert_allclose(js["terms"][1], noise, rtol=1e-9, atol=1e-12)
    assert_allclose(js["density"], evolve(density, push, noise, 2.5, apart), rtol=0, atol=1e-9)
    assert_allclose(js["steps"], np.stack(expected_step(theta, 0.7 - theta, forces, 0.3), -1), rtol=0, atol=1e-9)
    more, follows = excess(1 / (1 + np.exp(-theta)), forces, 0.3, told)
    assert_allclose(js["excess"], np.stack(np.broadcast_arrays(more, follows), -1), rtol=0, atol=1e-8)  # differences of large numbers


@pytest.fixture
def alive(browser):
    """A function that shows a figure to a reader who asked for no motion, as a notebook would: `state` is what its model holds."""
    pages = []

    def show(figure):
        page = browser.new_page(reduced_motion="reduce")
        pages.append(page)
        text = base64.b64encode(figure.live._esm.encode()).decode()
        page.evaluate(
            """async ([text, state]) => {
              const { default: figure } = await import(`data:text/javascript;base64,${text}`), heard = {};
              window.state = state;
              window.tell = (name, value) => ((state[name] = value), heard[`change:${name}`]());
              const on = (event, call) => (heard[event] = call);
              const model = { get: (k) => state[k], set: (k, v) => (state[k] = v), on, save_changes() {} };
              figure.render({ model, el: document.body.appendChild(document.createElement("div")) });
            }""",
            [text, figure.model],
        )
        return page

    yield show
    for page in pages:
        page.close()


@pytest.mark.parametrize(
    ("stage", "settings"), [("one unit", {}), ("two units", dict(use=0.2, every=5)), ("a layer", dict(use=0.1, flip=0.02))]
)
def test_the_page_walks_as_python_does(alive, stage, settings):
    """Eight thousand steps, with the stream of uniforms that the seed names."""
    page, steps, seed = alive(plane(stage=stage, seed=3, **settings)), 8000, 3
    page.wait_for_function(f"state.steps === {steps} && state.logits")
    shown, forces = page.evaluate("state"), Forces(**settings)
    size = next(one for one in STORY if one["name"] == stage)
    b, r = np.zeros((2, 200 // size["units"], size["units"]))
    usual = b + 0.5
    for step in range(steps):
        counters = np.arange(800 * step + 1, 800 * (step + 1) + 1, dtype=np.uint64)
        u = unit_interval(splitmix64(np.uint64(seed), counters)).reshape(4, 1, *b.shape)
        turn = forces.every > 0 and (step + 1) % forces.every == 0
        b, r, usual = unit_step(b, r, usual, u, forces, 0.2, turn, size["uses"])
    assert_allclose(shown["logits"], [b.ravel(), r.ravel()], rtol=0, atol=1e-9)
    assert_allclose(shown["tau"], 320)
    sizes = dict(units=size["units"], uses=size["uses"])
    assert_allclose(shown["theory"], predicted_entropy(forces, steps, pieces=steps // 20, **sizes), atol=1e-9)
    p = 1 / (1 + np.exp(-(b + r) / 2))
    assert_allclose(shown["entropy"], -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean(), atol=1e-9)
    assert_allclose(shown["cornered"], ((p < 0.1) | (p > 0.9)).mean())


# Sentences, hands, keys


@pytest.mark.parametrize(("stage", "words", "forces"), STORIES, ids=[f"{stage}: {words}" for stage, words, _ in STORIES])
def test_a_sentence_leads_to_the_state_that_it_names(alive, stage, words, forces):
    page = alive(plane())
    if stage != "one unit":
        page.get_by_role("radio", name=stage).check(force=True)
    page.evaluate("state.steps = null")
    page.get_by_role("link", name=words, exact=True).click()
    state = page.evaluate("state")
    assert {name: state[name] for name in as_js(forces)} == as_js(forces) and state["stage"] == stage
    assert state["steps"] == 8000 and page.locator(".drift-text [aria-current]").inner_text() == words


def test_a_sentence_obeys_the_keyboard(opened):
    page = opened(plane())
    page.get_by_role("link", name="Perturb them").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Perturb them"
    assert page.get_by_label("perturbation flips").get_attribute("aria-valuetext") == "3 % of the tosses"
    page.get_by_label("learning rate").focus()
    page.keyboard.press("ArrowLeft")
    assert page.get_by_label("learning rate").get_attribute("aria-valuetext") == "0.1"
    assert page.locator(".drift-text [aria-current]").count() == 0


def steps(page):
    return page.evaluate("+document.querySelector('[data-steps]').dataset.steps")


def drawn(page):
    return page.eval_on_selector_all("[data-figure] svg", "nodes => nodes.map(n => n.innerHTML).join()")


def test_within_ten_seconds_units_are_fixed(opened):
    page = opened(plane(), still=False)
    page.wait_for_function("(t) => +document.querySelector('[data-steps]').dataset.steps > 9000", arg=0, timeout=30_000)
    page.get_by_role("button", name="Pause").click()
    said = page.inner_text(".drift-status")
    assert int(re.search(r"(\d+) % of the units are nearly constant", said)[1]) > 70
    before = drawn(page)
    page.wait_for_timeout(300)
    assert drawn(page) == before
    page.get_by_role("button", name="On by 2000 steps").click()
    assert drawn(page) != before
    page.get_by_role("button", name="Begin again").click()
    page.wait_for_function("+document.querySelector('[data-steps]').dataset.steps < 5000")
    page.get_by_role("button", name="Pause").click()


def test_nothing_moves_for_those_who_want_no_motion(opened):
    page = opened(plane())
    assert steps(page) == 8000 and page.get_by_role("button", name="Play").count() == 0
    before = drawn(page)
    page.wait_for_timeout(400)
    assert drawn(page) == before
    page.get_by_role("button", name="On by 2000 steps").click()
    assert steps(page) == 10_000 and drawn(page) != before
    page.get_by_role("button", name="Begin again").click()
    assert steps(page) == 8000 and drawn(page) == before


def test_nor_does_python_move_it_for_them(alive):
    page = alive(plane())
    page.wait_for_function("state.steps === 8000")
    page.evaluate("tell('running', true)")
    page.wait_for_function("state.running === false")
    assert page.evaluate("state.steps") == 10_000
    page.wait_for_timeout(300)
    assert page.evaluate("state.steps") == 10_000


WRONG = [dict(lr=0.15), dict(batch=3), dict(use=0.55), dict(every=2), dict(stage="three units"), dict(layers="mim")]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_state_that_cannot_be_is_refused(wrong):
    (name, value), = wrong.items()
    with pytest.raises(ValueError, match=f"^{name} is one of .*, not {value!r}$"):
        plane(**wrong)


def test_it_rests_unseen(opened):
    page = opened(plane(), still=False)
    page.evaluate("document.body.style.paddingTop = '9000px'")
    page.wait_for_timeout(300)
    at = steps(page)
    page.wait_for_timeout(500)
    assert steps(page) == at
    page.evaluate("document.body.style.paddingTop = 0")
    page.wait_for_function("(at) => +document.querySelector('[data-steps]').dataset.steps > at", arg=at)
    assert steps(page) < at + 2000


def test_the_rate_falls_from_where_the_button_is_pressed(opened):
    page = opened(plane())
    page.get_by_role("button", name="let the rate fall").click()
    page.get_by_role("button", name="On by 2000 steps").click()
    tau = float(re.search(r"τ = ([\d.]+)", page.inner_text(".drift-status"))[1])
    assert abs(tau - (320 + sum(0.2**2 / (1 + step / 1000) ** 2 for step in range(2000)))) < 1


def test_marks_are_the_units_of_trained_machines(opened):
    page = opened(plane())
    assert page.locator(".real path").count() == 0
    page.get_by_text("wake-sleep", exact=True).click()
    fills = page.eval_on_selector_all(".real path", "marks => marks.map((m) => m.getAttribute('fill'))")
    assert fills == [f"var(--layer-{layer})" for layer, _, _ in REAL["wake-sleep"]]
    assert "layer 3" in page.inner_text(".drift-key")
    x, y = (float(v) for v in re.match(r"M([\d.]+) ([\d.]+)l", page.locator(".real path").nth(1).get_attribute("d")).groups())
    assert (x, y + 6) == (30, 290)  # far out, and drawn on the edge


# The address


def address(page):
    return dict(parse_qsl(urlsplit(page.url).fragment))


def test_the_address_holds_the_state_and_opens_it(opened):
    page = opened(plane())
    assert urlsplit(page.url).fragment == ""
    page.get_by_role("link", name="One step in five is MIM's").click()
    page.get_by_label("learning rate").fill("2")
    page.wait_for_function("location.hash.includes('lr')")
    assert address(page) == {"drift.every": "5", "drift.lr": "0.05"}
    assert page.locator(".drift-python code").inner_text() == "drift_plane(…, lr=0.05, every=5)"
    again = opened(plane(), address="#" + urlsplit(page.url).fragment)
    assert again.get_by_label("MIM decides").get_attribute("aria-valuetext") == "in one step of 5"
    assert again.get_by_label("learning rate").get_attribute("aria-valuetext") == "0.05"
    again.evaluate("location.hash = '#drift.stage=two+units&drift.falling=true&other.x=1'")
    again.wait_for_function("document.querySelector('.drift-text').textContent.startsWith('Two units')")
    assert again.get_by_label("the data tell the bit").get_attribute("aria-valuetext") == "20 % of the time"
    assert again.locator(".drift-python code").inner_text() == 'drift_plane(…, stage="two units", use=0.2, falling=True)'
    assert again.get_by_role("button", name="let the rate fall").get_attribute("aria-pressed") == "true"
    again.get_by_role("link", name="No use").click()
    again.wait_for_function("location.hash.includes('drift.use')")
    assert address(again) == {"other.x": "1", "drift.stage": "two units", "drift.use": "0"}
    again.get_by_role("radio", name="one unit").check(force=True)
    again.wait_for_function("!location.hash.includes('drift')")
    assert address(again) == {"other.x": "1"}


@pytest.mark.parametrize("wrong", ["#drift.lr=7&drift.stage=three&drift.nothing=1&drift.running=true", "#a-heading", "#drift.every=many"])
def test_an_address_that_names_no_state_changes_nothing(opened, wrong):
    page = opened(plane(), address=wrong)
    assert page.locator(".drift-text [aria-current]").inner_text() == "Nobody pushes them"
    assert page.locator("[role=alert]").inner_text() == ""
    page.wait_for_function("!location.hash.includes('drift')")
    assert page.url.endswith("#a-heading") == (wrong == "#a-heading")


def test_each_sentence_is_a_link_to_its_state(opened):
    page = opened(plane())
    links = dict(page.eval_on_selector_all(".drift-text a", "links => links.map((a) => [a.textContent, a.getAttribute('href')])"))
    assert links["Make the bit useful"] == "#drift.use=0.1" and links["Nobody pushes them"] == "#"
    again = opened(plane(), address=links["a small use in loud noise"])
    assert again.locator(".drift-text [aria-current]").inner_text() == "a small use in loud noise"


# Seen by everybody

MARKS = ("● ", "◆ ")
CONTRAST = """() => {
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => sum + w * linear(rgb[i] / 255), 0);
  const parts = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const ancestors = (node) => (node ? [node, ...ancestors(node.parentElement)] : []);
  const solid = (colour) => colour.length < 4 || colour[3] === 1;
  const written = (node) => [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && node.getClientRects().length;
  const texts = [...document.querySelectorAll(".lively *")].filter((node) => !node.matches("style, .unseen") && written(node));
  return texts.map((node) => {
    const style = getComputedStyle(node), svg = node.ownerSVGElement, above = ancestors(node).map((one) => getComputedStyle(one));
    const paper = above.map((one) => parts(one.backgroundColor)).find(solid) ?? [255, 255, 255];
    const shown = above.reduce((all, one) => all * one.opacity, 1);
    const ink = parts(svg ? style.fill : style.color).map((v, i) => shown * v + (1 - shown) * paper[i]);
    const [dark, bright] = [light(ink), light(paper)].sort((a, b) => a - b);
    return [(bright + 0.05) / (dark + 0.05), parseFloat(style.fontSize) * (svg ? svg.getScreenCTM().a : 1), node.textContent];
  });
}"""
DARK = "html { --paper: #14181d; --ink: #dfe3e8; --faint: #20252c; --rule: #3a4048; } body { background: #14181d; }"


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_read(opened, width, theme):
    page = opened(plane(stage="a layer", use=0.2, layers="wake-sleep"), viewport={"width": width, "height": 844})
    page.evaluate("(theme) => (document.documentElement.dataset.theme = theme)", theme)
    if theme == "dark":
        page.add_style_tag(content=DARK)
    found = page.evaluate(CONTRAST)
    assert len(found) > 25
    assert not [(round(ratio, 2), words) for ratio, size, words in found if ratio < (3 if words in MARKS else 4.5)]
    assert not [(size, words) for ratio, size, words in found if size < 10.99]


def test_paper_has_the_figure_without_its_controls(opened):
    page = opened(plane())
    page.emulate_media(media="print")
    assert page.locator(".drift svg").first.is_visible() and not page.locator(".drift .controls").first.is_visible()
