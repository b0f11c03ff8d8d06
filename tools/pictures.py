"""Pictures for the pages: an IPython extension that `tools/execute.py` gives to every kernel.

A plot becomes SVG whose words are words and whose colours are the page's variables, drawn twice: as wide as a page, and for a
phone with its panels one under the other. A sheet of images without words stays a PNG, twice as fine as it is shown.
"""

import io
import re
import textwrap
from xml.etree import ElementTree

import matplotlib as mpl
from IPython.core.pylabtools import print_figure
from matplotlib.figure import Figure
from matplotlib.text import Text

from helmholtz_mim.figures import LAYERS, PALETTE

WIDE, NARROW = 8.8, 3.9  # inches of a page and of a phone
PIXELS = 90  # of the screen, an inch: where a drawing has its full width the smallest letters are eleven high
POINTS = 9.4  # of the smallest letters
PANEL = 2.6  # inches of the height of a plot among others on a phone, at most
MANY = 10  # panels, which stay where they are
WORDS = 36  # letters in a line there
INKS = {
    **{color: name for name, color in PALETTE.items()},
    **{color: f"layer-{l}" for l, color in enumerate(LAYERS)},
    "#ffffff": "paper",
    "#cccccc": "pale",  # the frame of a legend
}
NUMBER = re.compile(r"-?\d+\.\d{3,}")
SPACE = "http://www.w3.org/2000/svg"
GROUP, USE, PATH, *UNSEEN = (f"{{{SPACE}}}{tag}" for tag in ("g", "use", "path", "metadata", "style"))
HREF = "{http://www.w3.org/1999/xlink}href"
ElementTree.register_namespace("", SPACE)
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "book", "image.composite_image": False}


def is_sheet(fig: Figure) -> bool:
    """Whether a figure is images without a word."""
    return any(ax.images for ax in fig.axes) and not any(t.get_text() for t in fig.findobj(Text) if t.get_visible())


def legible(fig: Figure) -> None:
    """Letters of a size to be read, images of their own pixels."""
    fig.draw_without_rendering()
    for ax in fig.axes:
        for axis in (ax.xaxis, ax.yaxis):
            size = axis.get_tick_params().get("labelsize", POINTS)
            axis.set_tick_params(labelsize=size if isinstance(size, str) else max(size, POINTS))
        for image in ax.images:
            image.set_interpolation("none")
    for text in fig.findobj(Text):
        text.set_fontsize(max(text.get_fontsize(), POINTS))


def scrolls(fig: Figure) -> bool:
    """Whether a figure is too full to be drawn narrow: images beside words and numbers."""
    titles = {fig._suptitle, *(title for ax in fig.axes for title in (ax.title, ax._left_title))}
    words = [text for text in fig.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in titles]
    return any(ax.images for ax in fig.axes) and bool(words)


def stack(fig: Figure) -> None:
    """Panels side by side one under the other, in the width of a phone."""
    panels = [ax for ax in fig.axes if ax.get_subplotspec()]
    width, height = fig.get_size_inches()
    if any(ax.images for ax in panels):
        height = max(1.2, height * max(0.6, NARROW / width))
    elif len(panels) < MANY and max((ax.get_subplotspec().get_gridspec().ncols for ax in panels), default=1) > 1:
        heights = [min(PANEL, height * ax.get_position().height + 0.5) for ax in panels]
        for ax, place in zip(panels, fig.add_gridspec(len(panels), 1, height_ratios=heights), strict=True):
            ax.set_subplotspec(place)
            ax.tick_params(labelleft=True, labelbottom=True)
        height = sum(heights)
    common_legends(fig, panels)
    for ax in panels:
        wrap(ax.yaxis.label, WORDS // 2)
        wrap(ax.title, WORDS), wrap(ax._left_title, WORDS)
    if fig._suptitle:
        wrap(fig._suptitle, WORDS)
    fig.set_size_inches(NARROW, height + sum(raised(ax) for ax in panels))


def common_legends(fig: Figure, panels: list) -> None:
    """A legend for all panels goes above them, in two columns, and the title of the figure below it."""
    if fig.legends and fig._suptitle and not panels[0].get_title():
        panels[0].set_title(fig._suptitle.get_text())
        fig.suptitle("")
    for legend in fig.legends:
        words = [text.get_text() for text in legend.get_texts()]
        fig.legend(legend.legend_handles, words, ncols=2, frameon=False, fontsize=POINTS, loc="outside upper center")
        legend.remove()


def raised(ax) -> float:
    """A title beside the legend goes above it: by how many inches."""
    legend, title = ax.get_legend(), ax._left_title
    if not legend or legend.get_window_extent().y0 < ax.bbox.y1 - 2:
        return 0
    over = legend.get_window_extent().height / ax.figure.dpi
    ax.set_title(title.get_text(), loc="left", fontsize=title.get_fontsize(), pad=72 * over + 6)
    return over


def wrap(text: Text, letters: int) -> None:
    text.set_text("\n".join(textwrap.fill(line, letters) for line in text.get_text().splitlines()))


def svg(fig: Figure) -> str:
    """A figure as SVG that can stand in a page."""
    text = io.StringIO()
    with mpl.rc_context(STYLE):
        nothing = dict.fromkeys(["Creator", "Date", "Format", "Type"])
        fig.savefig(text, format="svg", bbox_inches="tight", pad_inches=0.05, transparent=True, metadata=nothing)
    return inlined(text.getvalue())


def inlined(text: str) -> str:
    """The drawing alone, with the page's letters and colours, and no finer than can be seen."""
    root = ElementTree.fromstring(text)
    ids = set(re.findall(r'(?:url\(|href=")#(\w+)', text))
    names = {name: f"n{k}" for k, name in enumerate(sorted(ids))}
    styles = {element.get("id"): element.get("style") for element in root.iter()}
    for element in reversed(list(root.iter())):
        if element.tag == USE and element.get("style") == styles[element.get(HREF)[1:]]:
            element.attrib.pop("style", None)
        tidy(element, ids)
    width, height = (float(number) for number in root.get("viewBox").split()[2:])
    root.attrib = {
        "viewBox": f"0 0 {width:.0f} {height:.0f}", "width": f"{width * PIXELS / 72:.0f}", "height": f"{height * PIXELS / 72:.0f}",
        "style": f"color: var(--ink, #000); fill: currentColor; font: {POINTS}px sans-serif; stroke-linejoin: round",
    }  # fmt: skip
    for element in root.iter():
        if HREF in element.attrib:
            element.set("href", element.attrib.pop(HREF))
    text = ElementTree.tostring(root, encoding="unicode").replace(f"font-size: {POINTS}px; ", "").replace(" />", "/>")
    text = re.sub(r'(?<=\bid=")\w+|(?<=url\(#)\w+|(?<=href="#)\w+', lambda name: names[name[0]], text)
    return re.sub(r"#[0-9a-f]{6}\b", ink, text)


def tidy(element: ElementTree.Element, ids: set[str]) -> None:
    """Drop what nobody sees: ids that nothing names, boxes without ink, groups of one kind, digits."""
    if element.get("id") not in ids:
        element.attrib.pop("id", None)
    for name, value in element.attrib.items():
        if name == "d":
            element.set(name, short(value))
        elif name == "style":
            element.set(name, re.sub(r"font-family: [^;]*(; )?|font-variant: normal; ", "", shorthand(value)))
        elif name in ("x", "y"):
            element.set(name, f"{float(value):.1f}".removesuffix(".0"))
        elif name != HREF:
            element.set(name, NUMBER.sub(rounded, value))
    if re.match(r"rotate\(-?0 ", element.get("transform", "")):
        del element.attrib["transform"]
    kept = [child for child in element if child.tag not in UNSEEN and child.get("style") != "fill: none"]
    element[:] = [part for child in kept for part in (child if child.tag == GROUP and not child.attrib else [child])]
    for before, child in zip([None, *element], list(element)):
        child.tail = None
        if before is not None and before.tag == child.tag == PATH and alike(before, child):
            child.set("d", before.get("d", "") + child.get("d", ""))
            element.remove(before)
    styles = {child.get("style", "") for child in element}
    if element.tag == GROUP and len(element) > 1 and len(styles) == 1 and not re.search("^$|(?<!-)opacity", *styles):
        element.set("style", *styles)
        for child in element:
            del child.attrib["style"]
    if not (element.text or "").strip():
        element.text = None


def alike(one: ElementTree.Element, other: ElementTree.Element) -> bool:
    """Whether two paths can be one."""
    first, second = ({**path.attrib, "d": ""} for path in (one, other))
    return first == second and "id" not in first and "opacity" not in first.get("style", "")


def shorthand(style: str) -> str:
    """The size, weight and slant of letters that a style gives in short, its family left to the page."""
    font = re.search(r"font: ([^;]*?)([\d.]+)px [^;]*", style)
    if not font:
        return style
    weight = "; font-weight: bold" * bool(re.search("bold|[6-9]00", font[1]))
    return style.replace(font[0], f"font-size: {font[2]}px{weight}" + "; font-style: italic" * bool(re.search("italic|oblique", font[1])))


def short(path: str) -> str:
    """A path in tenths of a point, its lines from where the last one ended."""
    if re.search("[QCA]", path):
        return NUMBER.sub(rounded, path.replace("\n", " "))
    steps, x, y = [], 0, 0
    for letter, *numbers in re.findall(r"([MLz])\s*(?:(\S+) (\S+))?", path):
        if letter == "z":
            steps.append("z")
            continue
        new_x, new_y = (round(10 * float(number)) for number in numbers)
        if letter == "M":
            steps.append(f"M{new_x / 10:g} {new_y / 10:g}")
        elif new_y == y and new_x != x:
            steps.append(f"h{(new_x - x) / 10:g}")
        elif new_x == x and new_y != y:
            steps.append(f"v{(new_y - y) / 10:g}")
        elif new_x != x:
            steps.append(f"l{(new_x - x) / 10:g} {(new_y - y) / 10:g}")
        x, y = new_x, new_y
    return "".join(steps)


def rounded(number: re.Match) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def ink(color: re.Match) -> str:
    """A colour of the palette as the page's variable."""
    if color[0] == "#000000":
        return "currentColor"
    return f"var(--{INKS[color[0]]}, {color[0]})" if color[0] in INKS else color[0]


def as_svg(fig: Figure) -> tuple[str, dict] | None:
    """A figure as it stands in a page; in what is said of it, as it stands on a phone, where it does not scroll."""
    if is_sheet(fig):
        return None
    if not fig.get_layout_engine():
        fig.set_layout_engine("constrained")
    legible(fig)
    width, height = fig.get_size_inches()
    fig.set_size_inches(min(width, WIDE), height)
    wide = svg(fig)
    if scrolls(fig):
        return wide, {}
    stack(fig)
    legible(fig)
    return wide, {"narrow": svg(fig)}


def as_png(fig: Figure) -> tuple[bytes, dict] | None:
    """A sheet of images, and how wide it is shown."""
    if not is_sheet(fig):
        return None
    png = print_figure(fig, "png", base64=False, dpi=2 * PIXELS)
    return png, {"width": int.from_bytes(png[16:20], "big") // 2}


def load_ipython_extension(shell) -> None:
    shell.enable_matplotlib("inline")
    for kind, draw in (("image/svg+xml", as_svg), ("image/png", as_png)):
        shell.display_formatter.formatters[kind].for_type(Figure, draw)
