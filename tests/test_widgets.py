"""The interactive figures in a browser: the same machine as in Python, alive from a file, operable by hand and keyboard."""

import base64
import json
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from helmholtz_mim import HelmholtzMachine, Patterns, Stream, TrainConfig, encode, exact_report, scheme, train, well_formed
from helmholtz_mim.interactive import page as widgets
from helmholtz_mim.interactive.gallery import collapse_lab, step_machine
from helmholtz_mim.streams import splitmix64
from helmholtz_mim.interactive.page import Interactive, bundle, packed, small_png, source

ROOT = Path(__file__).parent.parent
FIGURES = sorted(p.stem for p in (ROOT / "helmholtz_mim/interactive/js").glob("*.js") if "export default" in p.read_text("utf-8"))
SIZES = (12, 10, 8, 6, 3)

COIN = Interactive("coin", {"p": 0.8}, alt="a coin </script> & its entropy", caption="A coin.")


@pytest.fixture
def core(browser):
    """A page that has the machinery of core.js as `core`."""
    page = browser.new_page()
    text = base64.b64encode(source("core").encode()).decode()
    page.evaluate("async (text) => (window.core = await import(`data:text/javascript;base64,${text}`), 0)", text)
    yield page
    page.close()


@pytest.fixture
def show(browser, tmp_path):
    """A function that opens figures from a file, in a page that notes every request and error."""
    pages = []

    def open_page(*figures, **options):
        path = tmp_path / "page.html"
        path.write_text("\n".join(figure.page() for figure in figures), encoding="utf-8")
        page = browser.new_page(**options)
        pages.append(watched(page))
        page.goto(path.as_uri())
        return page

    yield open_page
    for page in pages:
        outside = [url for url in page.requested if urlsplit(url).scheme not in ("file", "data", "blob")]
        assert not outside and not page.complaints
        page.close()


def watched(page):
    """The page, with lists of what it asks for and complains about."""
    page.requested, page.complaints = [], []
    page.on("request", lambda request: page.requested.append(request.url))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    return page


def halves(key):
    return [int(key) >> 32, int(key) & 0xFFFFFFFF]


# The machine in JavaScript is the machine in Python


@pytest.mark.parametrize("key", [0, 1, 2**32 - 1, 2**32, 2**63 + 12345, 2**64 - 1, 0x9E3779B97F4A7C15])
def test_uniforms_have_the_same_bits(core, key):
    counters = np.arange(1, 1001, dtype=np.uint64)
    far = np.uint64(2**40) + counters
    js = core.evaluate(
        """([[high, low], far]) => {
          const stream = new core.Stream(high, low), near = [...stream.fill(new Float64Array(600)), ...stream.fill(new Float64Array(400))];
          stream.seek(far);
          return [near, [...stream.fill(new Float64Array(1000))], stream.position];
        }""",
        [halves(key), 2**40],
    )
    for counter, numbers in zip((counters, far), js):
        python = (splitmix64(np.uint64(key), counter) >> np.uint64(11)) * 2.0**-53
        assert (np.array(numbers) == python).all()
    assert js[2] == 2**40 + 1000


def laid_out(*layers):
    """Layers as core.js has them: for each a row of weights for each input, then the biases."""
    rows = ([*layer.weight.mT, torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias] for layer in layers)
    return torch.cat([row.double() for layer in rows for row in layer]).numpy()


RULES = {"wake-sleep": "null", "flip": "new core.Flip()", "mim": "new core.FactorialMIM()"}


def train_in_page(core, key, words, epochs, name, every):
    """Weights of a machine that JavaScript trained, laid out as there."""
    up, down = core.evaluate(
        f"""([[high, low], sizes, words, epochs, every]) => {{
          const machine = new core.Machine(sizes), data = core.patterns(sizes[0], words);
          const training = new core.Training(machine, data, new core.Stream(high, low), {{ lr: 0.1, every }});
          training.rule = {RULES[name]};
          training.run(epochs * words.length);
          return [machine.recognition.flatMap((w) => [...w]), machine.generative.flatMap((w) => [...w])];
        }}""",
        [halves(key), list(SIZES), words, epochs, every],
    )
    return np.array(up), np.array(down)


@pytest.mark.parametrize(("name", "every"), [("wake-sleep", 10), ("flip", 10), ("flip", 3), ("mim", 10), ("mim", 3)])
@pytest.mark.parametrize(("engine", "epochs"), [("torch", 2), ("compiled", 40)])
def test_same_coins_same_weights(core, name, every, engine, epochs):
    rhythms, machine = well_formed(12), HelmholtzMachine(SIZES)
    key = Stream((), generator=torch.Generator().manual_seed(3)).keys
    config = TrainConfig(epochs=epochs, every=every, report_every=epochs)
    train(machine, rhythms, config, allocate=scheme(name), engine=engine, generator=torch.Generator().manual_seed(3))
    up, down = train_in_page(core, key, encode(rhythms.bits).tolist(), epochs, name, every)
    assert np.abs(up - laid_out(*machine.recognition)).max() < 1e-5
    assert np.abs(down - laid_out(*machine.generative, machine.prior)).max() < 1e-5
    assert np.abs(up).max() > 0.5


def test_sigmoid_has_ten_digits_everywhere(core):
    x = np.concatenate([np.linspace(-30, 30, 20_001), [-1e9, -31, 31, 1e9, np.log(3)]])
    js = core.evaluate("(x) => x.map((s) => core.sigmoid(s, new core.Machine([2, 1]).grid))", x.tolist())
    assert np.abs(np.array(js) - torch.from_numpy(x).sigmoid().numpy()).max() < 1e-10


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 9])
def test_pushed_rows_are_a_mixture_of_tables(core, rows):
    """Whether or not the rows fill the blocks of four, and with rows of no weight among them."""
    rng = np.random.default_rng(rows)
    s, p = rng.normal(size=(rows, 3)), rng.random(rows)
    p[1:-1:3] = 0
    states, fires = np.arange(8)[:, None] >> np.arange(2, -1, -1) & 1, 1 / (1 + np.exp(-s[:, None]))
    expected = p @ np.where(states, fires, 1 - fires).prod(-1)
    js = core.evaluate("([p, s]) => [...core.push(p, s, 3)]", [p.tolist(), s.ravel().tolist()])
    assert np.abs(np.array(js) - expected).max() < 1e-12


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
def test_diagnostics_are_those_of_the_exact_report(core, random_machine, scale):
    rhythms = well_formed(12)
    machine = random_machine(SIZES, seed=int(scale), scale=scale)
    report = exact_report(machine, rhythms).set_index(["measure", "direction", "layer"]).value
    blocks = [[laid_out(layer).tolist() for layer in layers] for layers in (machine.recognition, [*machine.generative, machine.prior])]
    js = core.evaluate(
        """([sizes, words, [recognition, generative]]) => {
          const machine = new core.Machine(sizes);
          recognition.forEach((block, l) => machine.recognition[l].set(block));
          generative.forEach((block, l) => machine.generative[l].set(block));
          const { H, I, KL, offSupport } = core.exactReport(machine, core.patterns(sizes[0], words));
          const text = (x) => (Number.isFinite(x) ? x : String(x));
          KL.generative[0] = text(KL.generative[0]);
          return { H, I, KL, "off-support": { generative: [offSupport] } };
        }""",
        [list(SIZES), encode(rhythms.bits).tolist(), blocks],
    )
    compared = 0
    for measure, ways in js.items():
        for way, values in ways.items():
            for layer, value in enumerate(values):
                expected = report[measure, way, layer]
                assert float(value) == pytest.approx(expected, abs=1e-6), (measure, way, layer)
                compared += 1
    assert compared == 5 * 2 + 4 * 2 + 5 * 2 + 1


def test_packed_arrays_arrive(browser):
    values = np.random.default_rng(0).normal(size=(7, 5))
    page = browser.new_page()
    text = base64.b64encode(source("kit").encode()).decode()
    got = page.evaluate(
        """async ([text, p]) => {
          const kit = await import(`data:text/javascript;base64,${text}`), { shape, numbers } = kit.unpacked(p);
          return [shape, [...numbers]];
        }""",
        [text, packed(values)],
    )
    page.close()
    assert got[0] == [7, 5]
    assert np.abs(np.reshape(got[1], (7, 5)) - values).max() <= np.abs(values).max() / 254 * 1.001


# The contract


@pytest.mark.parametrize("name", FIGURES)
def test_bundle_is_one_small_module(name):
    text = bundle(name)
    assert not re.search(r"^import\b", text, re.M)
    assert re.findall(r"^export .*", text, re.M) == ["export default { render };"]
    assert "</script" not in text and not re.search(r"https?://(?!www\.w3\.org/)", text)
    assert len(text) < 100_000


def test_unknown_figure_is_refused():
    with pytest.raises(ValueError, match=r"no interactive figure 'nothing'"):
        bundle("nothing")


def test_html_is_repeatable_and_safe():
    again = Interactive("coin", {"p": 0.8}, alt=COIN.alt, caption="A coin.")
    assert COIN.html() == again.html()
    assert COIN.html().count("</script") == 1
    other = Interactive("coin", {"p": 0.7}, alt=COIN.alt, caption="A coin.")
    assert re.findall(r'data-figure="([^"]+)', other.html())[0] != re.findall(r'data-figure="([^"]+)', COIN.html())[0]


def test_widget_is_offered_only_where_it_can_be(monkeypatch):
    assert widgets.VIEW in COIN._repr_mimebundle_()
    assert COIN._repr_mimebundle_()[widgets.VIEW] == COIN._repr_mimebundle_()[widgets.VIEW]
    assert COIN.live.p == 0.8 and COIN.live._esm == bundle("coin")
    monkeypatch.setattr(widgets, "find_spec", lambda name: None)
    assert set(COIN._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_picture_is_small():
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4))
    axes.plot(np.random.default_rng(0).normal(size=500))
    assert len(small_png(figure)) < 30_000
    assert not plt.fignum_exists(figure.number)


STORED = [
    (path, output["data"])
    for path in sorted((ROOT / "nbs").glob("*.ipynb"))
    for cell in json.loads(path.read_text("utf-8"))["cells"]
    for output in cell.get("outputs", [])
    if "data-figure" in "".join(output.get("data", {}).get("text/html", ""))
]


@pytest.mark.parametrize(("path", "data"), STORED, ids=[p.stem for p, _ in STORED])
def test_stored_figures_are_current_and_small(path, data):
    html = "".join(data["text/html"])
    name = re.search(r'data-figure="(\w+)-', html)[1]
    code = bundle(name).replace(widgets.EXPORT, "")
    assert code in html, f"run the chapter again: make run CHAPTERS={path.relative_to(ROOT)}"
    assert len(html) <= 300_000
    assert "<noscript><img alt=" in html or name == "coin"
    assert widgets.VIEW not in data


# In a page


def test_figure_lives_in_a_file(show):
    page = show(COIN)
    assert "0.500 nats" in page.inner_text("[data-figure]")
    page.get_by_label("probability of heads").focus()
    page.keyboard.press("Home")
    assert "0.000 nats" in page.inner_text("[data-figure]")


def test_twins_do_not_disturb_each_other(show):
    page = show(COIN, COIN, Interactive("coin", {"p": 0.5}, alt="a fair coin"))
    texts = [figure.inner_text() for figure in page.locator("[data-figure]").all()]
    assert [re.search(r"entropy (\S+)", text)[1] for text in texts] == ["0.500", "0.500", "0.693"]
    page.locator("input").nth(1).fill("0")
    texts = [figure.inner_text() for figure in page.locator("[data-figure]").all()]
    assert [re.search(r"entropy (\S+)", text)[1] for text in texts] == ["0.500", "0.000", "0.693"]


def test_figure_lives_over_http(browser, tmp_path):
    (tmp_path / "page.html").write_text(collapse_lab(epochs=5).page(), encoding="utf-8")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = watched(browser.new_page())
    page.goto(f"http://127.0.0.1:{server.server_port}/page.html")
    finished(page, 5)
    own = f"127.0.0.1:{server.server_port}"
    assert {urlsplit(url).netloc for url in page.requested if urlsplit(url).scheme != "blob"} == {own}
    assert not [text for text in page.complaints if "favicon" not in text and "404" not in text]
    page.close()
    server.shutdown()
    server.server_close()


def test_live_module_talks_to_its_model(browser):
    """What anywidget does: import the module, call render with a model and an element."""
    page = watched(browser.new_page())
    text = base64.b64encode(COIN.live._esm.encode()).decode()
    page.evaluate(
        """async ([text, state]) => {
          const { default: figure } = await import(`data:text/javascript;base64,${text}`);
          window.saved = 0;
          window.state = state;
          const model = { get: (k) => state[k], set: (k, v) => (state[k] = v), on() {}, save_changes: () => (window.saved += 1) };
          figure.render({ model, el: document.body });
        }""",
        [text, COIN.model],
    )
    page.locator("input").fill("0.25")
    assert page.evaluate("[state.p, saved >= 1]") == [0.25, True]
    assert "A coin." in page.inner_text("body") and not page.complaints
    page.close()


# The lab


def finished(page, epochs, timeout=60_000):
    page.wait_for_function(f"document.querySelector('[data-steps]')?.dataset.steps == {epochs * 905}", timeout=timeout)
    page.get_by_role("button", name="Play").wait_for()


def drawn(page):
    """All that is drawn: the shapes of bars and curves."""
    return page.eval_on_selector_all("[data-figure] path", "paths => paths.map(p => p.getAttribute('d')).join()")


def entropies(page):
    """H of layers 1 to 4, as the lab writes them."""
    found = re.findall(r"H (\d+\.\d+) of", page.inner_text("[data-figure]"))
    return [float(h) for h in reversed(found)]


def steps(page):
    return page.evaluate("+document.querySelector('[data-steps]').dataset.steps")


def test_lab_collapses_and_recovers(show):
    page = show(collapse_lab(speed=5))
    finished(page, 100)
    collapsed = entropies(page)
    assert len(collapsed) == 4 and max(collapsed[1:]) < 0.7
    assert "have collapsed" in page.inner_text("[data-figure]")
    page.get_by_role("radio", name="MIM").check(force=True)
    page.wait_for_function(f"document.querySelector('[data-steps]').dataset.steps > {160 * 905}", timeout=60_000)
    page.get_by_role("button", name="Pause").click()
    recovered = entropies(page)
    assert all(after > before + 1 for after, before in zip(recovered, collapsed))
    assert "Every layer is alive" in page.inner_text("[data-figure]")
    page.get_by_role("radio", name="wake-sleep").check(force=True)
    page.wait_for_function(f"document.querySelector('[data-steps]').dataset.steps > {700 * 905}", timeout=90_000)
    assert sum(entropies(page)[1:]) < sum(recovered[1:]) - 4


def test_lab_obeys_the_mouse(show):
    page = show(collapse_lab(epochs=3))
    finished(page, 3)
    before = drawn(page)
    page.get_by_role("button", name="One step").click()
    page.wait_for_function(f"document.querySelector('[data-steps]').dataset.steps == {3 * 905 + 1}")
    assert drawn(page) != before
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function("document.querySelector('[data-steps]').dataset.steps == 0")
    assert "Every coin is fair" in page.inner_text("[data-figure]")
    page.get_by_text("perturbation").click()
    page.wait_for_function("document.querySelector('[data-steps]').dataset.steps > 5000")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(300)
    at = steps(page)
    page.wait_for_timeout(300)
    assert steps(page) == at


def test_lab_obeys_the_keyboard(show):
    page = show(collapse_lab(epochs=3))
    finished(page, 3)
    page.get_by_role("radio", name="wake-sleep").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("radio", name="perturbation").is_checked()
    page.wait_for_function(f"document.querySelector('[data-steps]').dataset.steps > {4 * 905}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Pause"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Play"
    page.keyboard.press("Tab")
    page.wait_for_timeout(300)
    at = steps(page)
    page.keyboard.press("Space")
    page.wait_for_function(f"document.querySelector('[data-steps]').dataset.steps == {at + 1}")
    for _ in range(3):
        page.keyboard.press("Tab")
    said = page.evaluate("document.activeElement.getAttribute('aria-valuetext')")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.getAttribute('aria-valuetext')") != said


def test_lab_rests_where_motion_is_unwanted(show):
    page = show(collapse_lab(), reduced_motion="reduce")
    page.evaluate(
        """() => {
          window.drawings = new Set();
          const path = document.querySelector('[data-figure] path');
          new MutationObserver(() => drawings.add(path.getAttribute('d'))).observe(path, { attributes: true });
        }"""
    )
    finished(page, 100)
    assert page.evaluate("drawings.size") <= 2
    assert max(entropies(page)[1:]) < 0.7


def test_lab_has_names_for_everything(show):
    page = show(collapse_lab(epochs=1))
    finished(page, 1)
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('[data-figure] :is(button, input, select, svg)')]
          .filter((e) => !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim())).length"""
    )
    assert unnamed == 0
    assert page.locator("[role=group][aria-label]").count() == 1
    assert page.locator("[aria-live=polite]").count() == 1


@pytest.mark.parametrize("width", [390, 820, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_lab_fits_and_follows_the_theme(show, width, theme):
    page = show(collapse_lab(epochs=1), viewport={"width": width, "height": 844})
    finished(page, 1)
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    colour = page.eval_on_selector(".lively .recognition", "e => getComputedStyle(e).color")
    assert colour == {"light": "rgb(0, 114, 178)", "dark": "rgb(108, 189, 240)"}[theme]


@pytest.fixture
def kit(browser):
    """A page that has the toolkit kit.js as `kit`."""
    page = browser.new_page()
    text = base64.b64encode(source("kit").encode()).decode()
    page.evaluate("async (text) => (window.kit = await import(`data:text/javascript;base64,${text}`), 0)", text)
    yield page
    page.close()


@pytest.mark.parametrize("strides", [[1000], [1, 50_000], [50_000, 1], [0, 7]])
def test_timeline_is_even_and_keeps_its_ends(kit, strides):
    """Ten thousand points of one run, whose pace changes half way."""
    steps = np.cumsum([0, *np.repeat(strides, 10_000 // len(strides))]).tolist()
    kept = kit.evaluate(
        """(steps) => {
          const keep = kit.timeline(480);
          return steps.map((steps) => keep({ steps })).at(-1).map((point) => point.steps);
        }""",
        steps,
    )
    assert kept[0] == 0 and kept[-1] == steps[-1] and 240 <= len(kept) <= 480
    assert max(np.diff(kept)) <= max(2 * steps[-1] / 240, *strides) and min(np.diff(kept)[:-1]) >= 1


def played(show, **options):
    """The lab, trained for three epochs and at rest."""
    page = show(collapse_lab(epochs=3), **options)
    finished(page, 3)
    return page


def test_lab_owes_nothing_after_a_change_of_speed(show):
    page = played(show)
    speed = page.get_by_label("speed")
    speed.fill("5")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"document.querySelector('[data-steps]').dataset.steps > {20 * 905}")
    speed.fill("0")
    page.wait_for_timeout(500)
    at = steps(page)
    page.wait_for_timeout(1500)
    assert steps(page) - at <= 4


def test_lab_forgets_what_it_cannot_do_in_time(show):
    page = played(show)
    page.get_by_label("speed").fill("2")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"document.querySelector('[data-steps]').dataset.steps > {3 * 905}")
    assert steps(page) < 3 * 905 + 100


@pytest.mark.parametrize("out", ["hidden", "scrolled"])
def test_lab_rests_unseen_and_owes_nothing(show, out):
    page = played(show)
    page.get_by_label("speed").fill("3")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"document.querySelector('[data-steps]').dataset.steps > {3 * 905 + 50}")
    unseen(page, out, True)
    page.wait_for_timeout(300)
    at = steps(page)
    page.wait_for_timeout(3000)
    assert steps(page) == at
    unseen(page, out, False)
    page.wait_for_function("at => document.querySelector('[data-steps]').dataset.steps > at", arg=at)
    assert steps(page) < at + 1500


def unseen(page, out, away):
    """Scroll the figure out of view, or make the page believe that its tab is hidden; and back."""
    if out == "scrolled":
        page.evaluate("away => (document.body.style.paddingTop = away ? '9000px' : '0')", away)
    else:
        page.evaluate(
            """away => {
              Object.defineProperty(document, "hidden", { configurable: true, get: () => away });
              document.dispatchEvent(new Event("visibilitychange"));
            }""",
            away,
        )


def test_patterns_are_the_same(core):
    bits = well_formed(12).bits
    js = core.evaluate("(words) => core.patterns(12, words).bits.map((b) => [...b])", encode(bits).tolist())
    assert (Patterns(js).bits == bits).all()


# Step the machine


@pytest.fixture
def walk(show):
    """A function that opens a machine to be stepped through, with the phases it may choose from."""

    def make(*phases):
        return show(step_machine(HelmholtzMachine((6, 4, 2)), well_formed(6), phases))

    return make


def story(page):
    return page.inner_text(".walk-story")


def widths(page, network):
    """How thick each weight of a network is drawn."""
    return page.eval_on_selector_all(f".network:nth-child({network}) .weight", "paths => paths.map(p => p.getAttribute('stroke-width'))")


@pytest.mark.parametrize(("phase", "pupil"), [("wake", 2), ("sleep", 1)])
def test_only_the_pupil_learns(walk, phase, pupil):
    page = walk(phase)
    before = widths(page, 1), widths(page, 2)
    page.get_by_role("button", name="1000").click()
    after = widths(page, 1), widths(page, 2)
    assert after[pupil - 1] != before[pupil - 1] and after[2 - pupil] == before[2 - pupil]
    assert "learns" in story(page)


def test_walk_steps_layer_by_layer(walk):
    page = walk("sleep", "wake", "both")
    step = page.get_by_role("button", name="Step")
    told = []
    page.get_by_role("radio", name="in turn").check(force=True)
    for _ in range(8):
        step.click()
        told.append(story(page).split(":")[0].split(" ")[0])
    assert told == ["By", "Generation", "Generation", "Recognition", "By", "Recognition", "Recognition", "Generation"]
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("before => document.querySelector('.walk-story').textContent !== before", arg=story(page))
    page.get_by_role("button", name="Pause").click()


def test_weight_tells_its_change(walk):
    page = walk("wake")
    page.locator("svg").nth(1).focus()
    page.keyboard.press("ArrowRight")
    text = page.inner_text(".walk-weight")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert page.inner_text(".walk-weight") != text
    found = re.search(r"changed by ([+−][\d.]+) = ([\d.]+) × \((\d) − ([\d.]+)\) × (\d)", page.inner_text(".walk-weight"))
    change, lr, target, expected, active = (float(g.replace("−", "-")) for g in found.groups())
    assert change == pytest.approx(lr * (target - expected) * active, abs=2e-3)
    page.locator("svg").first.locator(".hand").nth(3).dispatch_event("pointerenter")
    assert "is the teacher now" in page.inner_text(".walk-weight")


@pytest.mark.parametrize("out", ["hidden", "scrolled"])
def test_walk_rests_unseen(walk, out):
    page = walk("wake")
    page.get_by_label("speed").fill("20")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("before => document.querySelector('.walk-story').textContent !== before", arg=story(page))
    unseen(page, out, True)
    page.wait_for_timeout(200)
    before = story(page)
    page.wait_for_timeout(600)
    assert story(page) == before
    unseen(page, out, False)
    page.wait_for_function("before => document.querySelector('.walk-story').textContent !== before", arg=before)
