"""A picture as Mermaid text, which GitHub, GitLab and most note-taking programs draw.

Any task id and any label is safe. Nodes get new names, because ids such as `end`, `x--y` and `o` are Mermaid syntax. In
a label every character that could be syntax becomes an entity, so quotes, brackets, directives, markdown, HTML and
icons stay text.
"""

from __future__ import annotations

import json
import re
from typing import Final

from liteflow.pictures.boxes import critical_edges
from liteflow.pictures.picture import (
    PLAIN_STYLE,
    STATUS_STYLES,
    Picture,
    StatusStyle,
    box_label,
    caption,
    clean,
    prefers_left_to_right,
    shorten,
    status_style,
)

_LABEL_LIMIT: Final = 80
_LATE: Final = re.compile(r"(fa\w*:)(?=fa-)|(\\)(?=n)|(\$)(?=\$)|(\ufb02)(?=\u00b0)|(\u00b6)(?=\u00df)", re.IGNORECASE)
#: All ASCII punctuation except `_ , ( )` and a dot inside a word or number.
_UNSAFE: Final = re.compile(r"(?<!\w)\.|\.(?!\w)|[\x00-\x1f!-'*+\-/:-@\[-^`{-\x7f]")
#: A longer line of `class` statements is hard to read in a diff.
_NAMES_PER_LINE: Final = 12


def to_mermaid(picture: Picture, *, styled: bool = True) -> str:
    """Return flowchart text, the same for the same picture. `styled=False` leaves the colours to a stylesheet."""
    names = node_names(picture)
    lines = ["---", f"title: {_yaml(clean(picture.title))}", "---"]
    lines.append("flowchart LR" if prefers_left_to_right(picture) else "flowchart TD")
    lines += _members(picture, names, "", "    ")
    lines += [f"    {names[edge.source]} --> {names[edge.target]}" for edge in picture.edges]

    members: dict[str, list[str]] = {}
    for name, status in picture.statuses():
        members.setdefault(status_style(status).name, []).append(names[name])
    for look in [*STATUS_STYLES.values(), PLAIN_STYLE]:
        nodes = members.get(look.name, [])
        if not nodes:
            continue
        if styled:
            lines.append(f"    classDef {look.name} {_style(look)}")
        for start in range(0, len(nodes), _NAMES_PER_LINE):
            lines.append(f"    class {','.join(nodes[start : start + _NAMES_PER_LINE])} {look.name}")
    lines += _critical(picture, names, styled=styled)
    return "\n".join(lines) + "\n"


def _critical(picture: Picture, names: dict[str, str], *, styled: bool) -> list[str]:
    """Return the lines that mark the critical path."""
    nodes = [names[name] for name in picture.critical if name in names]
    lines = [f"    class {','.join(nodes)} critical"] if nodes else []
    if not styled:
        return lines
    steps = critical_edges(picture)
    numbers = [str(number) for number, edge in enumerate(picture.edges) if edge in steps]
    if nodes:
        lines.insert(0, "    classDef critical stroke-width:3.5px")
    return [*lines, f"    linkStyle {','.join(numbers)} stroke-width:3.5px"] if numbers else lines


def _members(picture: Picture, names: dict[str, str], group: str, indent: str) -> list[str]:
    """Return the lines of the nodes and boxes in a group, or of those in none."""
    lines = []
    for node in picture.nodes:
        if node.group == group:
            text = escape(shorten(clean(node.label), _LABEL_LIMIT)) or "#160;"
            second = escape(caption(node))
            lines.append(f'{indent}{names[node.task_id]}["{text}{"<br/>" + second if second else ""}"]')
    for box in picture.boxes:
        if box.group == group:
            label = escape(shorten(box_label(box), _LABEL_LIMIT))
            lines.append(f'{indent}subgraph {names[box.group_id]}["{label}"]')
            lines += _members(picture, names, box.group_id, f"{indent}    ")
            lines.append(f"{indent}end")
    return lines


def node_names(picture: Picture) -> dict[str, str]:
    """Return a name for each task and box that is not Mermaid syntax: readable, starting with `t_`, unique."""
    names: dict[str, str] = {}
    used: set[str] = set()
    numbers: dict[str, int] = {}  # the last suffix of each base name, so that thousands of equal names are fast
    for task_id in picture.names():
        base = "t_" + re.sub(r"[^A-Za-z0-9]+", "_", task_id)[:128]
        name = base
        while name in used:
            numbers[base] = numbers.get(base, 1) + 1
            name = f"{base}__{numbers[base]}"
        used.add(name)
        names[task_id] = name
    return names


def escape(text: str) -> str:
    """Return text for the inside of a quoted label, with special characters as entities such as #59;."""
    # Mermaid replaces icons, \n, $$formulas$$ and its own placeholders after it has decoded the entities. An invisible
    # joiner in the middle of such a sequence prevents that.
    text = _LATE.sub("\\g<0>\u2060", text)
    return _UNSAFE.sub(lambda match: f"#{ord(match[0])};", text)


def _yaml(text: str) -> str:
    """Return a double-quoted YAML scalar. Mermaid searches the text for %%{directives}%% before it parses it."""
    return re.sub(r"[%{}<>&#`]", lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def _style(look: StatusStyle) -> str:
    dashes = ",stroke-dasharray:5 4" if look.dashed else ""
    colours = look.light
    return f"fill:{colours.fill},stroke:{colours.stroke},color:{colours.ink},stroke-width:1.5px{dashes}"
