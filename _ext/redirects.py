"""Pages at the addresses that chapters had before, which lead to where they are now."""

import re
from html import escape
from pathlib import Path

MOVED = Path(__file__).with_name("moved.txt")
PAGE = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <title>{title}</title>
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta http-equiv="refresh" content="0; url={address}" />
    <link rel="canonical" href="{address}" />
  </head>
  <body>
    <main>
      <h1>{title}</h1>
      <p>This chapter has moved: <a href="{address}">{title}</a></p>
    </main>
  </body>
</html>
"""


def moved():
    """Of every earlier stem the name of its chapter: `02_datasets` is `worlds`."""
    lines = (line.partition(":") for line in MOVED.read_text(encoding="utf-8").splitlines() if line[:1] not in ("#", ""))
    return {stem: name for name, _, stems in lines for stem in stems.split()}


def targets(stems):
    """Of every earlier stem, that is not one of today's, the present one."""
    present = {re.sub(r"^\d+_", "", stem): stem for stem in stems}
    return {old: present[name] for old, name in moved().items() if old not in stems}


def collect_pages(app):
    folder = "nbs/"
    documents = {name.removeprefix(folder): name for name in app.env.found_docs if name.startswith(folder)}
    for old, stem in targets(documents).items():
        title = app.env.titles[documents[stem]].astext()
        text = PAGE.format(title=escape(title), address=f"{stem}.html")
        (Path(app.outdir) / folder / f"{old}.html").write_text(text, encoding="utf-8")
    return []


def setup(app):
    app.connect("html-collect-pages", collect_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
