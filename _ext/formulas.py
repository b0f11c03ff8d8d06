"""Formulas as MathML, made when the book is built: no script in the page, and a screen reader can say them.

latex2mathml converts; what browsers leave out of MathML, or space otherwise than TeX does, is repaired in its tree. A formula
that cannot be converted stops the build, and is named.
"""

import re
import unicodedata
from html import unescape
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.commands import FUNCTIONS
from latex2mathml.converter import Converter
from latex2mathml.symbols_parser import convert_symbol
from sphinx.errors import ExtensionError
from sphinx.util.math import get_node_equation_number

REPLACED = [  # before the conversion
    (r"\\label\{[^}]*\}", ""),  # Sphinx has read it, and numbers equations itself
    (r"\\(begin|end)\{(?:align|aligned|flalign\*?|eqnarray\*?)\}", r"\\\1{align*}"),
    (r"\\(begin|end)\{(?:gather|gathered|equation\*?|multline\*?)\}", r"\\\1{gather*}"),
    (r"\\mathrm(?:\{([a-zA-Z])\}|\s+([a-zA-Z]))", r"\\text{\1\2}"),
    (r"\\arg(?![a-zA-Z])", r"\\operatorname{arg}"),
]
ALPHABETS = {"bold": "BOLD", "bold-italic": "BOLD ITALIC", "double-struck": "DOUBLE-STRUCK", "script": "SCRIPT", "fraktur": "FRAKTUR"}
KINDS = {"Ll": "SMALL", "Lu": "CAPITAL", "Nd": "DIGIT"}
ACCENTS = {"^": "ˆ", "~": "˜", "―": "‾"}
UNDER_OVER = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}
PARTS = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3}
SCRIPTED = {*UNDER_OVER, *UNDER_OVER.values()}
NAMES = {name.removeprefix("\\") for name in FUNCTIONS} | {"arg", "max", "min", "sup", "inf", "lim", "Pr"}
LIMITED = set("∑∏∐⋃⋂⨁⨂⋁⋀") | {"max", "min", "sup", "inf", "lim", "Pr"}
OPEN, CLOSED, SIGNS = set("([{⟨⌈⌊"), set(")]}⟩⌉⌋|‖!"), set("+−±∓")
SPACES = dict.fromkeys("×÷⋅", "0.2222em") | dict.fromkeys("/|‖", "0")  # as in TeX
THIN = "0.1667em"
LONG = 35  # characters that may not fit the line of a phone


def mathml(tex, display):
    """A formula as MathML; a `ValueError` says what cannot be converted."""
    for pattern, by in REPLACED:
        tex = re.sub(pattern, by, tex)
    braces = re.findall(r"(?<!\\)[{}]", tex)
    if braces.count("{") != braces.count("}"):
        raise ValueError("its braces are not closed")
    try:
        math = Converter(display="block" if display else "inline").convert_to_element(tex.strip())
    except Exception as error:  # of many kinds, all of latex2mathml
        raise ValueError(f"latex2mathml says {type(error).__name__}") from error
    for element in list(math.iter()):
        element.text = plain(element.text or "")
        if len(element) != PARTS.get(element.tag, len(element)):
            raise ValueError(f"{element.tag} needs {PARTS[element.tag]} parts")
    for repair in (set_letters, set_operators, set_scripts, set_cells, join_upright, set_spaces):
        for element in list(math.iter()):
            repair(element)
    del math.attrib["xmlns"]
    return ElementTree.tostring(math, encoding="unicode")


def plain(text):
    """The characters that are meant; a command that is left over is one that latex2mathml does not know."""
    text = unescape(text)
    if symbol := text.startswith("\\") and convert_symbol(text):  # after \bigl
        return chr(int(symbol, 16))
    if re.match(r"\\[a-zA-Z]", text):
        raise ValueError(f"{text} is not known")
    return text


def set_letters(element):
    """Letters of other alphabets are characters of their own; capital Greek and what is written so are upright."""
    variant, text = element.get("mathvariant"), element.text
    if variant in ALPHABETS:
        element.text = "".join(letter(character, variant) for character in text)
        del element.attrib["mathvariant"]
    elif element.tag == "mtext" and len(text) == 1 and text.isalpha():
        element.tag, element.attrib = "mi", {"mathvariant": "normal"}
    elif element.tag == "mi" and re.fullmatch("[Α-Ω]", text):
        element.set("mathvariant", "normal")
    elif element.tag == "mi" and text == "~":
        element.tag, element.text = "mo", "∼"
    elif element.tag == "mo" and text in ("∞", "∅"):
        element.tag, element.attrib = "mi", {}


def letter(character, variant):
    """𝔼 for E, 𝛉 for θ."""
    kind = unicodedata.category(character)
    if kind not in KINDS:
        return character
    style, name = ALPHABETS[variant], unicodedata.name(character).split()[-1]
    names = f"MATHEMATICAL {style} {KINDS[kind]} {name}", f"{style} {KINDS[kind]} {name}", f"MATHEMATICAL BOLD {KINDS[kind]} {name}"
    for name in names:
        try:
            return unicodedata.lookup(name)
        except KeyError:
            pass
    return character


def set_operators(element):
    """Names of functions, large brackets and what is spaced otherwise than TeX does."""
    if element.tag != "mo":
        return
    text = element.text
    if text in LIMITED and text.isalpha():
        element.attrib = {"movablelimits": "true", "lspace": "0", "rspace": "0"}
    elif len(text) > 1 and re.fullmatch(r"[a-zA-Z\u2009\u2006]+", text):
        element.tag, element.attrib = "mi", {}
    elif size := element.get("minsize"):
        element.set("form", "prefix" if text in OPEN else "postfix" if text in CLOSED else "infix")
        if size == "1.2em":  # stretched, it would stand in wide gaps, and small under an exponent
            element.attrib = {"form": element.get("form"), "stretchy": "false", "class": "big"}
    elif text in SPACES and not element.get("form"):
        element.attrib |= {"lspace": SPACES[text], "rspace": SPACES[text]}


def set_scripts(element):
    """Limits stand under sums wherever there is room; accents are small; operators in scripts have no space around them."""
    if element.tag in SCRIPTED and element[0].tag == "mo" and element[0].text in LIMITED:
        element.tag = UNDER_OVER.get(element.tag, element.tag)
        element[0].set("movablelimits", "true")
    if element.tag == "mover" and element[-1].text in ACCENTS:
        element[-1].text = ACCENTS[element[-1].text]
    for script in element[1:] if element.tag in SCRIPTED else ():
        for operator in script.iter("mo"):
            if not operator.get("stretchy") == operator.get("fence") == "true":
                operator.attrib |= {"lspace": "0", "rspace": "0"}
    if element.tag == "mrow" and len(element) == 1 and element[0].tag == "mo":  # {=}
        element[0].attrib |= {"lspace": "0", "rspace": "0"}


def set_cells(element):
    """Style sheets align the cells of a table; browsers no longer read the attribute."""
    if element.tag == "mtd" and (align := element.attrib.pop("columnalign", None)):
        element.set("class", align)


def join_upright(row):
    """KL is one name, not a K and an L."""
    before = None
    for element in list(row):
        if before is not None and all(e.tag == "mi" and e.get("mathvariant") == "normal" for e in (before, element)):
            before.text += element.text
            row.remove(element)
        else:
            before = element
    for element in row:
        if element.tag == "mi" and len(element.text) > 1:
            element.attrib.pop("mathvariant", None)  # upright anyway


def core(element):
    """What carries the scripts of an element."""
    while element is not None and len(element) and (element.tag in SCRIPTED or (element.tag == "mrow" and len(element) == 1)):
        element = element[0]
    return element


def is_function(element):
    name = core(element)
    return name is not None and name.tag in ("mi", "mo") and (name.text in NAMES or (name.tag == "mi" and len(name.text) > 2))


def is_operand(element):
    return (element is not None and core(element).tag not in ("mo", "mspace", "mtext")) or is_function(element)


def set_spaces(row):
    """A thin space around ln and its like, and none after the minus of a negative number."""
    if row.tag not in ("mrow", "mtd", "mstyle", "math", "msqrt"):
        return
    children = list(row)
    row[:] = []
    for before, element, after in zip([None, *children], children, [*children[1:], None]):
        sign = element.tag == "mo" and element.text in SIGNS
        if sign and (before is None or (core(before).tag in ("mo", "mspace") and core(before).text not in CLOSED)):
            element.set("form", "prefix")
        closed = before is not None and core(before).tag == "mo" and core(before).text in CLOSED
        if is_function(element) and (closed or is_operand(before)) and not is_function(before):
            row.append(ElementTree.Element("mspace", width=THIN))
        row.append(element)
        if is_function(element) and (is_operand(after) or (after is not None and core(after).text in OPEN)):
            applied = ElementTree.SubElement(row, "mo", lspace="0", rspace=THIN if is_operand(after) else "0")
            applied.text = "\u2061"


def converted(translator, node):
    """The MathML of a node, or the end of the build."""
    display = isinstance(node, nodes.math_block)
    try:
        return mathml(node.astext(), display)
    except ValueError as error:
        where = f"{translator.builder.current_docname}, line {node.line}" if node.line else translator.builder.current_docname
        raise ExtensionError(f"{where}: no MathML for the formula {node.astext().strip()!r}: {error}") from error


def visit_inline(translator, node):
    math = converted(translator, node)
    long = " long" * (len(re.sub("<[^>]*>", "", math)) > LONG)
    translator.body.append(f'<span class="math{long}">{math}</span>')
    raise nodes.SkipNode


def visit_block(translator, node):
    """A display stands in a box of its own, which scrolls where it is too long; its number beside it."""
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    translator.body.append(f'<div class="formula">{converted(translator, node)}</div>')
    if node["number"]:
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
