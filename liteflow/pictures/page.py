"""A picture as one HTML file that works without a network, a server or a second file.

The Mermaid library is inlined. A content security policy allows only the scripts of this module, by their hashes;
nothing can be fetched and no form can be sent. All text of tasks goes through `_text`. The table below the drawing has
all facts as text: without scripts, on paper, for a screen reader, and for graphs that are too large to draw.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from html import escape
from importlib import resources
from typing import Final

from liteflow.pictures.boxes import folded
from liteflow.pictures.mermaid import node_names, to_mermaid
from liteflow.pictures.picture import (
    PLAIN_STYLE,
    STATUS_STYLES,
    Node,
    Picture,
    StatusStyle,
    caption,
    clean,
    duration_text,
    status_style,
)

#: For larger graphs the layout takes a browser too long (30 s for 1,000 tasks), so the page has only the table.
#: page.js shows a button before it draws more than 300 tasks.
DRAWN_NODES: Final = 1_500
DRAWN_EDGES: Final = 4_000
_NEEDS_SHOWN: Final = 12


def to_html(picture: Picture) -> str:
    """Return the page, the same for the same picture."""
    drawn = 0 < len(picture.nodes) <= DRAWN_NODES and len(picture.edges) <= DRAWN_EDGES
    scripts = [_script("page.js")]
    if drawn:
        scripts.insert(0, _script("mermaid.min.js"))
    title = clean(picture.title) or "workflow"
    body = [
        _header(picture, title),
        _legend(picture),
        _drawing(picture) if drawn else _notice(picture),
        _table(picture),
    ]
    style = _asset("page.css") + _palette()
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">',
            '<meta name="referrer" content="no-referrer">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(title)}</title>",
            '<link rel="icon" href="data:,">',
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            "<main>",
            *body,
            "<footer>Drawn by Lightflow. This file is complete: it works without a network.</footer>",
            "</main>",
            *(f"<script>{script}</script>" for script in scripts),
            "</body>",
            "</html>\n",
        ]
    )


def _header(picture: Picture, title: str) -> str:
    parts = [f'<div class="head"><h1>{_text(title)}</h1>']
    if picture.status:
        parts.append(_badge(status_style(picture.status)))
    parts.append("</div>")
    if picture.subtitle:
        parts.append(f'<p class="subtitle">{_text(picture.subtitle)}</p>')
    facts = [
        *picture.facts,
        ("Tasks", f"{len(picture.nodes):,}"),
        *([("Groups", f"{len(picture.boxes):,}")] if picture.boxes else []),
        ("Dependencies", f"{len(picture.edges):,}"),
    ]
    parts.append('<dl class="facts">')
    parts += [f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts]
    parts.append("</dl>")
    return "<header>" + "".join(parts) + "</header>"


def _legend(picture: Picture) -> str:
    counts = picture.counts()
    if not counts:
        return ""
    items = []
    for status, count in counts.items():
        look = status_style(status)
        dashed = " dashed" if look.dashed else ""
        items.append(
            f'<li><button type="button" class="badge {look.name}{dashed}" data-state="{_text(status)}" '
            f'aria-pressed="false" title="show only these">{_text(f"{look.sign} {look.word}")} '
            f"<b>{count:,}</b></button></li>"
        )
    return f'<ul class="legend" aria-label="States">{"".join(items)}</ul>'


def _drawing(picture: Picture) -> str:
    source = to_mermaid(picture, styled=False)
    fold, folded_source = "", ""
    if picture.boxes:
        fold = '<button type="button" id="fold">Fold groups</button>'
        folded_source = f'<pre id="folded" hidden>{escape(to_mermaid(folded(picture), styled=False))}</pre>'
    return (
        '<div class="frame"><div id="stage" class="stage" tabindex="0" aria-label="Graph of the tasks">'
        '<p class="message">Drawing… (the table below has every task)</p></div>'
        '<div id="tools" class="tools" hidden><button type="button" id="out" aria-label="Zoom out">&minus;</button>'
        '<button type="button" id="in" aria-label="Zoom in">+</button>'
        f'<button type="button" id="fit">Fit</button>{fold}</div></div>'
        '<p id="hint" class="hint" hidden>Drag to move, Ctrl + wheel or + and &minus; to zoom, 0 to fit. '
        "Click a task to find it in the table, and the other way round.</p>"
        f'<pre id="source" hidden>{escape(source)}</pre>{folded_source}'
    )


def _notice(picture: Picture) -> str:
    if not picture.nodes:
        return '<p class="notice">This workflow has no tasks.</p>'
    return (
        f'<p class="notice">{len(picture.nodes):,} tasks with {len(picture.edges):,} dependencies are too many for a '
        "browser to draw, so this page has only the table; <code>lightflow dag --output graph.svg</code> "
        "draws up to 5,000 tasks.</p>"
    )


def _table(picture: Picture) -> str:
    names, upstream = node_names(picture), picture.upstream()
    kinds = any(node.kind for node in picture.nodes)
    states = any(node.status for node in picture.nodes)
    times = any(node.duration_s is not None for node in picture.nodes)
    details = any(node.detail for node in picture.nodes)
    head = ["<th>Task</th>"]
    head += ["<th>Type</th>"] * kinds + ["<th>State</th>"] * states + ['<th class="time">Duration</th>'] * times
    head += ["<th>Depends on</th>"] + ["<th>Detail</th>"] * details
    rows = []
    for node in picture.nodes:
        look = status_style(node.status)
        name = _text(node.task_id)
        cells = [f'<th scope="row"><button type="button" class="go">{name}</button>{_label(node)}</th>']
        cells += [f"<td>{_text(node.kind)}</td>"] * kinds
        cells += [f"<td>{_badge(look) if node.status else ''}</td>"] * states
        cells += [f'<td class="time">{duration_text(node.duration_s)}</td>'] * times
        cells.append(f'<td class="needs">{_needs(upstream[node.task_id])}</td>')
        cells += [f'<td class="detail">{_text(node.detail or "")}</td>'] * details
        rows.append(
            f'<tr data-node="{names[node.task_id]}" data-state="{_text(node.status or "")}" '
            f'data-tip="{_text(_tip(node))}">{"".join(cells)}</tr>'
        )
    return (
        f'<h2>Tasks</h2>\n<div class="scroll"><table><thead><tr>{"".join(head)}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _label(node: Node) -> str:
    """Return the label below the id, where it differs from the id."""
    return f"<br>{_text(node.label)}" if node.label != node.task_id else ""


def _needs(sources: list[str]) -> str:
    shown = ", ".join(_text(source) for source in sources[:_NEEDS_SHOWN])
    hidden = len(sources) - _NEEDS_SHOWN
    return f"{shown} and {hidden:,} more" if hidden > 0 else shown


def _tip(node: Node) -> str:
    return " · ".join(part for part in (clean(node.task_id), caption(node), clean(node.detail or "")) if part)


def _badge(look: StatusStyle) -> str:
    dashed = " dashed" if look.dashed else ""
    return f'<span class="badge {look.name}{dashed}">{_text(f"{look.sign} {look.word}".strip())}</span>'


def _text(text: str) -> str:
    return escape(clean(text), quote=True)


def _palette() -> str:
    """Return the colours of `picture.py` as custom properties, for badges and for the boxes of the drawing."""

    def rules(dark: bool) -> str:
        lines = []
        for look in [PLAIN_STYLE, *STATUS_STYLES.values()]:
            colours = look.dark if dark else look.light
            lines.append(
                f".{look.name} {{ --fill: {colours.fill}; --stroke: {colours.stroke}; --text: {colours.ink}; }}"
            )
        return "\n".join(lines)

    return f"{rules(dark=False)}\n@media screen and (prefers-color-scheme: dark) {{\n{rules(dark=True)}\n}}\n"


def _policy(scripts: list[str]) -> str:
    """Return the content security policy, which allows scripts by hash.

    Styles cannot have hashes, because Mermaid writes style elements and attributes into the drawing. A style cannot
    load anything, so at worst the page looks odd.
    """
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _script(name: str) -> str:
    """Return a script that is safe in a page: no text in it ends the script element or opens another."""
    return re.sub(r"<(?=/script|script|!--)", r"\\x3c", _asset(name), flags=re.IGNORECASE)


@cache
def _asset(name: str) -> str:
    return (resources.files("liteflow") / "assets" / name).read_text(encoding="utf-8")
