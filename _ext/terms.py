"""Terms of the glossary: in the prose of a page the first use of each is a link, and its definition a card beside it.

The card is the first sentence of the definition. Style sheets alone open it: to a mouse, to the keyboard, and to a finger, whose
second touch follows the link; what is described so is read by screen readers. In the glossary a comment below a definition may
say which words are linked, `<!-- linked as nights, the night -->`, or that none are, `<!-- not linked -->`; without one it is
the term and its plural; the author of a page links such a word with {term}.
"""

import re
from functools import cache
from html import escape
from typing import NamedTuple

from docutils import nodes

GLOSSARY = "nbs/glossary"
INLINE = (nodes.emphasis, nodes.strong)
NO_PROSE = (nodes.table, nodes.figure, nodes.footnote, nodes.citation, nodes.definition_list)


class Entry(NamedTuple):
    forms: list
    sentence: list


class Term(nodes.inline):
    """A word of the text that is a term, and what it means."""


def sentence(paragraph):
    """The nodes of a paragraph's first sentence, links as their words."""
    kept = []
    for node in paragraph.children:
        if not isinstance(node, nodes.Text):
            kept.append(nodes.Text(node.astext()) if isinstance(node, nodes.Element) and node.children[1:] else node.deepcopy())
        elif end := re.search(r"[.!?]\)?(?=\s|$)", node):
            return [*kept, nodes.Text(node[: end.end()])]
        else:
            kept.append(node.copy())
    return kept


def forms(term, definition):
    """The words that are linked: those that the comment names, or the term and its plural."""
    comment = "".join(raw.astext() for raw in definition.findall(nodes.raw))
    if named := re.search(r"<!-- linked as (.*?) -->", comment, re.S):
        return re.split(r",\s+", named[1])
    return [] if "<!-- not linked -->" in comment else [term, f"{term}s"]


@cache
def entries(env):
    """What the glossary says, by anchor."""
    items = [item for item in env.get_doctree(GLOSSARY).findall(nodes.definition_list_item) if item[0]["ids"]]
    return {item[0]["ids"][0]: Entry(forms(item[0].astext(), item[-1]), sentence(item[-1][0])) for item in items}


@cache
def anchors(env):
    """The anchor of every form, in small letters; long forms first, since what matches first is taken."""
    found = {form.lower(): anchor for anchor, entry in entries(env).items() for form in entry.forms}
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


@cache
def pattern(env):
    words = "|".join(re.escape(form).replace(r"\ ", r"\s+") for form in anchors(env))
    return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.I)


def is_prose(text):
    """Whether a text belongs to a paragraph that is read: not to a heading, code, a link, a table, an output or a caption."""
    node = text.parent
    if any(isinstance(sibling, nodes.raw) for sibling in node):
        return False
    while isinstance(node, INLINE):
        node = node.parent
    if not isinstance(node, nodes.paragraph) or [*map(type, node)] == [nodes.emphasis]:
        return False
    while node := node.parent:
        if isinstance(node, NO_PROSE) or "cell_output" in node.get("classes", ()):
            return False
    return True


def linked(text, env, seen):
    """The text in pieces, with a `Term` for each one that has not been seen."""
    pieces, start = [], 0
    for match in pattern(env).finditer(text):
        anchor = anchors(env)[re.sub(r"\s+", " ", match[0].lower())]
        if anchor not in seen:
            seen.add(anchor)
            pieces += [nodes.Text(text[start : match.start()]), Term("", match[0], anchor=anchor)]
            start = match.end()
    return [*pieces, nodes.Text(text[start:])]


def written_links(doctree):
    """The links to terms that the author wrote, {term}`dead code`: the first of each."""
    found = {}
    for link in doctree.findall(nodes.reference):
        if any("std-term" in words["classes"] for words in link.findall(nodes.inline)):
            found.setdefault(link["refuri"].partition("#")[2], link)
    return found


def link_first_uses(app, doctree, docname):
    if docname == GLOSSARY or app.builder.format != "html":
        return
    written = written_links(doctree)
    for anchor, link in written.items():
        link.replace_self(Term("", link.astext(), anchor=anchor))
    seen = {*written}
    for text in [*filter(is_prose, doctree.findall(nodes.Text))]:
        text.parent.replace(text, linked(text, app.env, seen))


def visit_term(translator, node):
    anchor, env = node["anchor"], translator.builder.env
    address = translator.builder.get_relative_uri(translator.builder.current_docname, GLOSSARY)
    card = anchor.replace("term-", "gloss-", 1)
    translator.body.append(f'<span class="term" tabindex="-1"><a href="{address}#{anchor}" aria-describedby="{card}">')
    translator.body.append(f'{escape(node.astext())}</a><span class="gloss" role="tooltip" id="{card}">')
    for part in entries(env)[anchor].sentence:
        part.walkabout(translator)
    translator.body.append("</span></span>")
    raise nodes.SkipNode


def setup(app):
    app.add_node(Term, html=(visit_term, None))
    app.connect("doctree-resolved", link_first_uses)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
