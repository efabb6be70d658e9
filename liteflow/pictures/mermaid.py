"""A picture as Mermaid text: what GitHub, GitLab and most note-taking programs draw.

Any task id and any label is safe. Node names are made here, not taken over (`end`, `x--y` and `o` mean
something to Mermaid), and in a label every sign that could mean something becomes an
entity, so quotes, brackets, directives, markdown, HTML and icons stay text.
"""

from __future__ import annotations

import json
import re
from typing import Final

from liteflow.pictures.picture import (
    PLAIN_STYLE,
    STATUS_STYLES,
    Picture,
    StatusStyle,
    caption,
    clean,
    prefers_left_to_right,
    shorten,
    status_style,
)

_LABEL_LIMIT: Final = 80
_LATE: Final = re.compile(r"(fa\w*:)(?=fa-)|(\\)(?=n)|(\$)(?=\$)|(\ufb02)(?=\u00b0)|(\u00b6)(?=\u00df)", re.IGNORECASE)
#: All ASCII signs but `_ , ( )` and a dot inside a word or number.
_UNSAFE: Final = re.compile(r"(?<!\w)\.|\.(?!\w)|[\x00-\x1f!-'*+\-/:-@\[-^`{-\x7f]")
#: Beyond this a line of `class` statements gets hard to read in a diff.
_NAMES_PER_LINE: Final = 12


def to_mermaid(picture: Picture, *, styled: bool = True) -> str:
    """Flowchart text, the same for the same picture. `styled=False` leaves the colours to a stylesheet."""
    names = node_names(picture)
    lines = ["---", f"title: {_yaml(clean(picture.title))}", "---"]
    lines.append("flowchart LR" if prefers_left_to_right(picture) else "flowchart TD")
    for node in picture.nodes:
        text = escape(shorten(clean(node.label), _LABEL_LIMIT)) or "#160;"
        second = escape(caption(node))
        lines.append(f'    {names[node.task_id]}["{text}{"<br/>" + second if second else ""}"]')
    lines += [f"    {names[edge.source]} --> {names[edge.target]}" for edge in picture.edges]

    members: dict[str, list[str]] = {}
    for node in picture.nodes:
        members.setdefault(status_style(node.status).name, []).append(names[node.task_id])
    for look in [*STATUS_STYLES.values(), PLAIN_STYLE]:
        found = members.get(look.name, [])
        if not found:
            continue
        if styled:
            lines.append(f"    classDef {look.name} {_style(look)}")
        for start in range(0, len(found), _NAMES_PER_LINE):
            lines.append(f"    class {','.join(found[start : start + _NAMES_PER_LINE])} {look.name}")
    return "\n".join(lines) + "\n"


def node_names(picture: Picture) -> dict[str, str]:
    """A name per task that Mermaid cannot misread: readable, starting with `t_`, unique."""
    names: dict[str, str] = {}
    used: set[str] = set()
    numbers: dict[str, int] = {}  # where to go on counting: thousands of equal names must not cost a square
    for node in picture.nodes:
        base = "t_" + re.sub(r"[^A-Za-z0-9]+", "_", node.task_id)[:128]
        name = base
        while name in used:
            numbers[base] = numbers.get(base, 1) + 1
            name = f"{base}__{numbers[base]}"
        used.add(name)
        names[node.task_id] = name
    return names


def escape(text: str) -> str:
    """Text for the inside of a quoted label. Mermaid writes a character as #NUMBER; in decimal."""
    # Mermaid looks for icons, \n, $$formulas$$ and its own stand-ins for entities after it has put the characters
    # back: an invisible joiner between the two halves is what keeps these as they are.
    text = _LATE.sub("\\g<0>\u2060", text)
    return _UNSAFE.sub(lambda match: f"#{ord(match[0])};", text)


def _yaml(text: str) -> str:
    """A double-quoted YAML scalar. Mermaid looks for %%{directives}%% before it parses, so none may show."""
    return re.sub(r"[%{}<>&#`]", lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def _style(look: StatusStyle) -> str:
    dashes = ",stroke-dasharray:5 4" if look.dashed else ""
    colours = look.light
    return f"fill:{colours.fill},stroke:{colours.stroke},color:{colours.ink},stroke-width:1.5px{dashes}"
