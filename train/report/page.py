"""The page: pieces of HTML and their template. Everything it needs is inside it, and it forbids itself the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

ASSETS = Path(__file__).parent / "assets"

VIEWER = """<div class="panel viewer">
<div class="controls">
<label>structure <select id="viewer-frame"></select></label>
<label>colour <select id="viewer-quantity">
<option value="charges">charges, model</option>
<option value="reference">charges, reference</option>
<option value="difference">charges, model − reference</option>
<option value="force_error">error of the force</option>
</select></label>
<label><input type="checkbox" id="viewer-dipoles"> atomic dipoles (green: model, grey: reference)</label>
</div>
<div id="viewer"></div>
<div class="below"><span id="viewer-legend"></span><span id="viewer-details"></span></div>
<p class="note" id="viewer-message">The viewer needs JavaScript; everything else on this page does without.</p>
</div>"""


@dataclass
class Section:
    """A part of the page with an entry in its navigation."""

    anchor: str
    title: str
    parts: list[str]
    note: str = ""


def table(rows: Sequence[Sequence[str]], last_is_sum: bool = False, text_columns: Sequence[int] = ()) -> str:
    """Heading row and rows; what is in brackets in the heading goes to a line of its own."""
    head = "".join(f"<th>{_heading(cell)}</th>" for cell in rows[0])
    body = []
    for number, row in enumerate(rows[1:], start=1):
        style = ' class="sum"' if last_is_sum and number == len(rows) - 1 and number > 1 else ""
        cells = "".join(
            f'<td class="text">{escape(cell)}</td>' if place in text_columns else f"<td>{escape(cell)}</td>"
            for place, cell in enumerate(row)
        )
        body.append(f"<tr{style}>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def figures(images: Iterable[tuple[str, str]]) -> str:
    """A grid of (title, data URI)."""
    return f'<div class="grid">{"".join(figure(title, uri) for title, uri in images)}</div>'


def figure(title: str, uri: str, wide: bool = False) -> str:
    """One image; its title is the text for those who do not see it."""
    style = ' class="wide"' if wide else ""
    return f'<figure{style}><img alt="{escape(title)}" src="{uri}"></figure>'


def cards(content: Iterable[tuple[str, Sequence[tuple[str, str]]]]) -> str:
    """Boxes of (what, value)."""
    boxes = []
    for title, rows in content:
        lines = "".join(f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for what, value in rows)
        boxes.append(f'<div class="card"><h3>{escape(title)}</h3><dl>{lines}</dl></div>')
    return f'<div class="grid cards">{"".join(boxes)}</div>'


def subtitle(text: str) -> str:
    """A heading inside a section."""
    return f"<h3>{escape(text)}</h3>"


def folded(title: str, text: str) -> str:
    """Text as it is, shown on demand."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def render(title: str, description: str, sections: Sequence[Section], footer: str, viewer_data: str | None) -> str:
    """The whole page; with ``viewer_data`` the viewer and its library are in it."""
    blocks = []
    for section in sections:
        note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
        parts = "\n".join(section.parts)
        blocks.append(f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>{note}\n{parts}</section>')
    scripts = "" if viewer_data is None else _scripts(viewer_data)
    template = Template((ASSETS / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        heading=escape(title),
        subtitle=escape(description),
        navigation="\n".join(f'<li><a href="#{item.anchor}">{escape(item.title)}</a></li>' for item in sections),
        sections="\n".join(blocks),
        footer=escape(footer),
        scripts=scripts,
    )


def _scripts(viewer_data: str) -> str:
    library = (ASSETS / "3Dmol-min.js").read_text(encoding="utf-8")
    licence = (ASSETS / "3Dmol-LICENSE.txt").read_text(encoding="utf-8")
    own = (ASSETS / "viewer.js").read_text(encoding="utf-8")
    return (
        f'<script type="application/json" id="viewer-data">{viewer_data}</script>\n'
        f"<script>\n/*\n{licence.replace('*/', '* /')}*/\n{library}\n</script>\n<script>\n{own}</script>"
    )


def _heading(cell: str) -> str:
    what, bracket, unit = cell.partition(" [")
    return escape(what) + (f"<small>{escape(bracket.strip() + unit)}</small>" if bracket else "")
