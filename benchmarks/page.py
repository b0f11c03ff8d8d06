"""What a reader of the built book waits for: weight of the first page, time to its first figure, steps a second in it.

The lab is measured beside the lab as it was at BEFORE, taking turns: the ratios hold on other machines, the rates do not.
"""

import shutil
import statistics
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright

from helmholtz_mim.interactive import page as widgets
from helmholtz_mim.interactive.gallery import collapse_lab

ROOT = Path(__file__).parent.parent
HTML = next((p for p in (ROOT / "_build/book/_build/html", ROOT / "_build/check/_build/html") if p.is_dir()), None)
DRAWN = "() => [...document.querySelectorAll('.lively path')].some((p) => p.getAttribute('d')?.length > 100)"
FRAME = "(t => new Promise((done) => requestAnimationFrame(() => done(performance.now() - t))))(performance.now())"
SECONDS = 2
ROUNDS = 3
BEFORE = "6a0e7ca"  # sigmoids by Math.exp, the exact report row by row


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *args):
        pass


def served(folder: Path) -> tuple[ThreadingHTTPServer, str]:
    """A server for a folder, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


def first_page(browser, address: str) -> None:
    """Bytes over the wire, uncompressed, and milliseconds from the request to a figure with bars in it."""
    times = []
    for _ in range(5):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        sizes = []
        page.on("requestfinished", lambda request, sizes=sizes: sizes.append((request.sizes()["responseBodySize"], request.url)))
        page.goto(f"{address}/nbs/index.html", wait_until="commit")
        page.wait_for_function(DRAWN, polling=10)
        times.append(page.evaluate("performance.now()"))
        page.wait_for_load_state("networkidle")
        total = sum(size for size, _ in sizes)
        page.close()
    print(f"first page: {total / 1e3:,.0f} kB in {len(sizes)} requests (no compression)")
    for size, url in sorted(sizes, reverse=True)[:5]:
        print(f"  {size / 1e3:8,.0f} kB  {url.rsplit('/', 1)[-1][:60]}")
    print(f"first figure drawn {statistics.median(times):.0f} ms after the request (median of {len(times)})")


def lab(scheme: str, commit: str = "") -> str:
    """The lab on a page of its own, with its JavaScript as it is, or as it was at a commit."""
    now = widgets.source
    if commit:
        show = ["git", "-C", str(ROOT), "show"]
        widgets.source = lambda name: subprocess.check_output([*show, f"{commit}:helmholtz_mim/interactive/js/{name}.js"], text=True)
    try:
        return collapse_lab(scheme, epochs=1).page()
    finally:
        widgets.source = now


def speed(browser, text: str) -> tuple[float, float]:
    """Wake-sleep steps a second of a lab at full speed, drawing included; milliseconds until the page answers, at most."""
    page = browser.new_page()
    page.set_content(text)
    page.wait_for_function("document.querySelector('[data-steps]')?.dataset.steps == 905")
    page.get_by_role("slider").fill("5")
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(1000)
    count = "+document.querySelector('[data-steps]').dataset.steps"
    before, start, late = *page.evaluate(f"[{count}, performance.now()]"), []
    while page.evaluate("performance.now()") - start < 1000 * SECONDS:
        late.append(page.evaluate(FRAME))
    after, end = page.evaluate(f"[{count}, performance.now()]")
    page.close()
    return 1000 * (after - before) / (end - start), max(late)


def compare(browser, scheme: str) -> None:
    """The lab before and now, in turns; the best of each."""
    turns = [[speed(browser, lab(scheme, commit)) for commit in (BEFORE, "")] for _ in range(ROUNDS)]
    before, now = (max(rate for rate, _ in runs) for runs in zip(*turns))
    late = max(wait for _, (_, wait) in turns)
    print(f"{scheme}: {now:,.0f} steps a second, {now / before:.2f} times the {before:,.0f} before; the page answers within {late:.0f} ms")


if __name__ == "__main__":
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        sys.exit("no chromium: install it with your system's package manager")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        for name in ("wake-sleep", "flip", "mim"):
            compare(browser, name)
        if HTML:
            server, address = served(HTML)
            first_page(browser, address)
            server.shutdown()
        else:
            print("the book is not built: `make book` or `make check` first, then its first page is measured too")
        browser.close()
