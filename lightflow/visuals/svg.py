"""What Graphviz's SVG lacks: a title, a role, readable tooltips, fonts that exist elsewhere, no reference outside."""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree

from lightflow.visuals.dot import node_ids
from liteflow.api import Picture, PictureNode, clean_text, node_caption

_SVG: Final = "http://www.w3.org/2000/svg"
_XLINK: Final = "http://www.w3.org/1999/xlink"
_FONTS: Final = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


def finish(drawn: bytes, picture: Picture) -> bytes:
    """Graphviz's SVG as a file that stands on its own. The DOCTYPE goes: it names a DTD on another machine."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(re.sub(rb"<!DOCTYPE[^>]*>", b"", drawn, count=1))
    root.set("role", "img")
    root.set("aria-label", clean_text(picture.title) or "workflow")
    root.set("font-family", _FONTS)
    title = ElementTree.Element(f"{{{_SVG}}}title")
    title.text = clean_text(picture.title) or "workflow"
    root.insert(0, title)

    ids = node_ids(picture)
    tips = {ids[node.task_id]: _tip(node) for node in picture.nodes}
    arrows = {
        f"{ids[edge.source]}->{ids[edge.target]}": f"{clean_text(edge.source)} → {clean_text(edge.target)}"
        for edge in picture.edges
    }
    for group in root.iter(f"{{{_SVG}}}g"):
        found = group.find(f"{{{_SVG}}}title")
        if found is None:
            continue
        kind = group.get("class", "")
        if kind == "graph":
            group.remove(found)  # the one above says it already
        elif kind == "edge":
            found.text = arrows.get(found.text or "", found.text)
        else:
            found.text = tips.get(group.get("id", ""), found.text)
        _unwrap(group)
    for text in root.iter(f"{{{_SVG}}}text"):
        text.attrib.pop("font-family", None)  # inherited from the root: a third less to load
    whole: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{whole}\n'.encode()


def _unwrap(group: ElementTree.Element) -> None:
    """Take the shapes out of the `<g><a>` that Graphviz wraps round whatever has a tooltip: there are no links."""
    for position, child in reversed(list(enumerate(group))):
        if child.tag == f"{{{_SVG}}}g" and len(child) == 1 and child[0].tag == f"{{{_SVG}}}a":
            group.remove(child)
            for shape in reversed(child[0]):
                group.insert(position, shape)


def _tip(node: PictureNode) -> str:
    lines = [clean_text(node.task_id), node_caption(node), clean_text(node.detail or "")]
    return "\n".join(line for line in lines if line)
