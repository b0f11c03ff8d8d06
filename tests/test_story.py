"""The story of the lab: one machine led by sentences, its past under a slider, its dreams heard, its state as Python and by address."""

import base64
import re

import numpy as np
import pytest
import torch
from helmholtz_mim.experiments.collapse import STORY
from helmholtz_mim.interactive.gallery import collapse_lab
from helmholtz_mim.interactive.page import source

ENDS = np.cumsum([step["epochs"] * 905 for step in STORY])

@pytest.fixture
def told(browser, tmp_path, ear):
    """A function that opens the lab with its story from a file; what it shares with Python is `state`, what sounds `clicks`."""
    pages = []

    def open_page(address="", still=True, **options):
        path = tmp_path / "page.html"
        mounted = re.sub(r'(mount\(render, "[^"]+", )\{', r"\1window.state = {", collapse_lab(story=STORY).page())
        path.write_text(mounted, encoding="utf-8")
        page = browser.new_page(reduced_motion="reduce" if still else "no-preference", **options)
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
        page.add_init_script(ear)
        pages.append(page)
        page.goto(path.as_uri() + address)
        return page

    yield open_page
    for page in pages:
        assert not page.complaints
        page.close()


def rested(page, steps):
    both = "[window.state?.steps, window.state?.history?.at(-1).steps]"
    page.wait_for_function(f"steps => {both}.every((at) => at === steps) && !state.running", arg=int(steps))


def drawn(page):
    return page.eval_on_selector_all("[data-figure] path", "paths => paths.map(p => p.getAttribute('d')).join()")


def verdict(page):
    return page.inner_text(".lab-status strong")


def here(page):
    return page.locator(".story [aria-current]").inner_text()


def total(page, measure):
    return sum(page.evaluate(f"state.{measure}.recognition"))


def test_sentences_lead_one_machine_whose_past_can_be_seen(told):
    """Without motion: each step is at its end at once, and what is claimed of it is so."""
    page = told()
    rested(page, ENDS[2])
    assert page.evaluate("state.dead") == [2, 3, 4] and here(page).startswith("3 fixed.")
    fixed, shapes = page.evaluate("state.weights"), drawn(page)
    page.evaluate(
        """() => {
          window.counted = new Set();
          const counter = document.querySelector(".counter");
          new MutationObserver(() => counted.add(counter.textContent)).observe(counter, { childList: true });
        }"""
    )
    found = {}
    for step, end in zip(STORY[3:], ENDS[3:]):
        page.get_by_role("button", name=f"Next: {step['name']}").click()
        rested(page, end)
        assert step["name"] in here(page)
        found[step["name"]] = total(page, "H"), total(page, "I"), page.evaluate("state.dead")
    assert page.evaluate("counted.size") <= 4  # where they end, and nothing on the way
    assert found["placebo"][0] > 0.9 * found["MIM"][0] and 2 * found["placebo"][1] < found["MIM"][1]
    assert found["MIM"][2] == [] and found["MIM removed"][2] == [2, 3, 4]
    # the past
    track = page.get_by_label("moment")
    track.focus()
    page.keyboard.press("Home")
    assert verdict(page) == "Every coin was fair: nothing was known yet." and here(page).startswith("1 born.")
    assert track.get_attribute("aria-valuetext") == "0 steps, wake-sleep" and page.evaluate("state.shown") == 0
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    assert re.fullmatch("Layers? .* had collapsed into one state.", verdict(page))
    assert page.evaluate("state.shown") == pytest.approx(ENDS[-1] / 5, rel=0.3) and page.evaluate("state.steps") == ENDS[-1]
    held = drawn(page)
    page.get_by_role("button", name="Now").click()
    assert page.evaluate("state.shown") == ENDS[-1] and drawn(page) != held and "MIM removed" in here(page)
    # back to where it has been: from the beginning, and the same machine
    page.get_by_role("link", name="3 fixed.").click()
    rested(page, ENDS[2])
    assert page.evaluate("state.weights") == fixed and drawn(page).split(",")[0] == shapes.split(",")[0]


def test_state_opens_as_python_and_by_its_address(told):
    """An address leads to a machine, the Python that is shown trains it, too, and the link is that address."""
    address = "#collapse_lab.schedule=wake-sleep*9050_flip*4525_mim*4525"
    page = told(address)
    rested(page, 20 * 905)
    page.locator("summary").click()
    known, weights = {}, page.evaluate("state.weights")
    exec(page.inner_text("pre"), known)
    machine = known["machine"]
    for layer, rows in zip([*machine.recognition, *machine.generative], [*weights["recognition"], *weights["generative"]]):
        assert torch.allclose(layer.weight, torch.tensor(rows[:-1]).mT, atol=1e-3) and layer.weight.abs().max() > 1
    assert page.get_by_role("link", name="a link to this state").get_attribute("href") == address
    assert page.locator(".story [aria-current]").count() == 0 and page.inner_text(".story-place") == "your own way"
    page.get_by_role("link", name="1 born.").click()
    rested(page, 0)
    page.wait_for_function("location.hash === '#collapse_lab.schedule=wake-sleep*0'")
    assert here(page).startswith("1 born.") and verdict(page).startswith("Every coin is fair")
    # a way of one's own, and an address that is none
    page.evaluate("location.hash = 'collapse_lab.seed=2&collapse_lab.schedule=mim*905*5*0.2_wake-sleep*10'")
    rested(page, 915)
    assert page.evaluate("[state.seed, state.schedule, state.step]") == [2, [["mim", 905, 5, 0.2], ["wake-sleep", 10, 10, 0.1]], 0]
    assert '("mim", TrainConfig(1, lr=0.2, every=5)),' in page.locator("pre").text_content()
    page.evaluate("location.hash = 'collapse_lab.schedule=sleep*7'")
    page.wait_for_timeout(100)
    assert page.evaluate("state.steps") == 915


def test_listening_tells_a_collapsed_machine_from_one_awake(told):
    """Onsets are scheduled on the clock of the audio device, each bar at the pitch of its top state; nothing sounds by itself."""
    page = told()
    rested(page, ENDS[2])
    pitches = {}
    for name, step in ((None, "fixed"), ("5 MIM.", "MIM")):
        if name:
            page.get_by_role("link", name=name).click()
            rested(page, ENDS[4])
        assert page.evaluate("window.clicks === undefined") or name
        page.get_by_role("button", name="Listen").click()
        bars = page.eval_on_selector_all(".heard .bar", "spans => spans.map(s => s.textContent)")
        clicks = page.evaluate("clicks")
        places = [k for k, place in enumerate("".join(bars)) if place == "●"]
        assert len(bars) == 12 and np.allclose([at for at, _ in clicks], 5.1 + np.array(places) / 8)
        pitches[step] = [{hertz for (_, hertz), place in zip(clicks, places) if place // 48 == group} for group in range(3)]
        assert not page.evaluate("silent")
        page.get_by_role("button", name="Stop").click()
        assert page.evaluate("silent") and page.locator(".sounding").count() == 0
    assert max(map(len, pitches["fixed"])) <= 2 < len(set.union(*pitches["MIM"]))
    assert sum(map(len, pitches["fixed"])) < sum(map(len, pitches["MIM"]))


def test_story_keeps_a_pace_that_can_be_read_and_goes_by_steps_on_a_phone(told):
    page = told(still=False, viewport={"width": 390, "height": 844})
    page.wait_for_function("window.state?.steps > 500")
    page.wait_for_timeout(1000)
    assert page.evaluate("state.steps") < 5000  # of 13,575 until the coins have drifted
    cards = page.locator(".story li")
    assert [card.is_visible() for card in cards.all()] == [False, True, False, False, False, False]
    for control in page.locator(".story").get_by_role("button").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 24
    page.get_by_role("button", name="Next: fixed").click()
    page.wait_for_function(f"state.steps > {ENDS[1]}")
    assert here(page).startswith("3 fixed.")
    page.get_by_role("button", name="Back").click()
    page.wait_for_function(f"state.steps < {ENDS[1]} && state.step === 2")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    # dragging into the past lets the machine rest
    page.get_by_label("moment").fill("20")
    page.wait_for_function("!state.running && state.shown < state.steps")
    assert page.get_by_role("button", name="Play").is_visible()
    # a definition by touch
    page.get_by_role("button", name="entropy H").focus()
    assert page.get_by_role("tooltip").filter(has_text="how many states").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("tooltip").filter(has_text="how many states").is_visible()


@pytest.fixture(scope="module")
def modules(browser):
    """A page with sound.js, scrubber.js and schedule.js as one module `m`."""
    page = browser.new_page()
    text = "\n".join(re.sub(r"^import .*\n", "", source(name), flags=re.M) for name in ("kit", "schedule", "scrubber", "sound"))
    packed = base64.b64encode(text.encode()).decode()
    page.evaluate("async (text) => (window.m = await import(`data:text/javascript;base64,${text}`), 0)", packed)
    yield page
    page.close()


def test_pure_parts(modules):
    onsets = modules.evaluate("m.onsets([[1, 0, 1], [0, 1], [0, 0], [1]], 2)")
    assert onsets == [[0, 1], [2], [], [3.5]]
    p = np.random.default_rng(0).random(64) ** 4
    back = modules.evaluate("(p) => [...m.stretched(m.squeezed(p))]", p.tolist())
    assert np.abs(np.array(back) - p).max() <= p.max() / 254
    usual = {"every": 10, "lr": 0.1}
    lived = [dict(scheme="wake-sleep", steps=5, **usual), dict(scheme="mim", steps=3, every=2, lr=0.5)]
    text = modules.evaluate("([lived, usual]) => m.written(lived, usual)", [lived, usual])
    assert text == "wake-sleep*5_mim*3*2*0.5"
    assert modules.evaluate("([text, usual]) => m.parsed(text, usual, ['wake-sleep', 'mim'])", [text, usual]) == lived
    for wrong in ("", "mim", "mim*-1", "mim*x", "flip*3", "mim*3*0", "mim*3*2*-1", "mim*99999999"):
        assert modules.evaluate("([text, usual]) => m.parsed(text, usual, ['wake-sleep', 'mim'])", [wrong, usual]) is None
    assert [s["steps"] for s in modules.evaluate("(lived) => m.cut(lived, 6)", lived)] == [5, 1]
    assert [s["steps"] for s in modules.evaluate("(lived) => m.cut(lived, 5)", lived)] == [5]
