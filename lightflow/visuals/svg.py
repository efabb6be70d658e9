"""Complete the SVG of Graphviz: a title, a role, readable tooltips, common fonts, no references to other files."""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree

from lightflow.visuals.dot import node_ids
from liteflow.api import Picture, PictureNode, box_label, clean_text, node_caption

_SVG: Final = "http://www.w3.org/2000/svg"
_XLINK: Final = "http://www.w3.org/1999/xlink"
_FONTS: Final = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


def finish(drawn: bytes, picture: Picture) -> bytes:
    """Return the SVG of Graphviz as a self-contained file, without DOCTYPE, which names a file on another machine."""
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
    tips |= {ids[box.group_id]: box_label(box) for box in picture.boxes}
    for group in root.iter(f"{{{_SVG}}}g"):
        group_title = group.find(f"{{{_SVG}}}title")
        if group_title is None:
            continue
        kind = group.get("class", "")
        if kind == "graph":
            group.remove(group_title)  # the title of the root is enough
        elif "edge" in kind.split():
            group_title.text = arrows.get(group_title.text or "", group_title.text)
        else:
            group_title.text = tips.get(group.get("id", ""), group_title.text)
        _unwrap(group)
    for text in root.iter(f"{{{_SVG}}}text"):
        text.attrib.pop("font-family", None)  # inherited from the root: the file is a third smaller
    whole: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{whole}\n'.encode()


def _unwrap(group: ElementTree.Element) -> None:
    """Remove the `<g><a>` that Graphviz puts around shapes with a tooltip: there are no links."""
    for position, child in reversed(list(enumerate(group))):
        if child.tag == f"{{{_SVG}}}g" and len(child) == 1 and child[0].tag == f"{{{_SVG}}}a":
            group.remove(child)
            for shape in reversed(child[0]):
                group.insert(position, shape)


def _tip(node: PictureNode) -> str:
    lines = [clean_text(node.task_id), node_caption(node), clean_text(node.detail or "")]
    return "\n".join(line for line in lines if line)
