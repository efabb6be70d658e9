"""Digests of the items of a mapped task, by which an instance belongs to its item; the same in every process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from liteflow.digest import sha256_hex
from liteflow.masking import Masker
from liteflow.values.payload import Payload, parts

_LENGTH: Final = 32  # hexadecimal digits: 128 bits
_UNORDERED: Final = ("set", "frozenset", "dict")  # tags of `payload` whose values have no order


def item_digest(items: Mapping[str, Payload], place: int, masker: Masker | None = None) -> str:
    """Return the digest of the values of one instance, by the name of the argument.

    The name of a single argument does not count, because it may change. A digest must not depend on a secret: for an
    item that contains one it is made of the rest of the text and of the place in the list. An object that is pickled
    is the same item if its pickle is the same.
    """
    named = sorted((f"[{name}]", payload) for name, payload in items.items())  # the form of names in stored digests
    texts = [(name, _text(payload, place, masker)) for name, payload in named]
    whole = texts[0][1] if len(texts) == 1 else repr(texts).encode()
    return sha256_hex(whole)[:_LENGTH]


def _text(payload: Payload, place: int, masker: Masker | None) -> bytes:
    encoding, data = payload.encoding, payload.data
    if encoding == "list":
        return repr([_text(part, place, masker) for part in parts(payload)]).encode()
    if payload.file is not None:
        return f"{encoding}:{payload.sha256}".encode()
    if isinstance(data, str):
        text = _canonical(data)
        if masker is not None and masker.secret_in(text.encode("utf-8", "surrogatepass")) is not None:
            text = f"{place}:{masker.text(text)}"
        return f"{encoding}:{text}".encode("utf-8", "surrogatepass")
    assert isinstance(data, bytes)
    if masker is not None and masker.secret_in(data) is not None:
        return f"{encoding}:{place}".encode()
    return encoding.encode() + b":" + data


def _canonical(text: str) -> str:
    """Return a JSON text with the members of mappings and sets in a fixed order; other texts as they are."""
    if text[:1] not in ("[", "{"):
        return text
    try:
        return json.dumps(_ordered(json.loads(text)), sort_keys=True)
    except (ValueError, RecursionError):
        return text


def _ordered(node: Any) -> Any:
    if isinstance(node, list):
        return [_ordered(item) for item in node]
    if not isinstance(node, dict):
        return node
    ordered = {name: _ordered(member) for name, member in node.items()}
    if ordered.get("$type") in _UNORDERED and isinstance(ordered.get("value"), list):
        ordered["value"] = sorted(ordered["value"], key=lambda member: json.dumps(member, sort_keys=True))
    return ordered
