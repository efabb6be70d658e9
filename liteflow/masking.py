"""Masking: secret values, in the forms in which programs print them, become `***` before output is written.

`Masker` knows the forms of all secrets of a run. `Stream` masks output that arrives in pieces: the end of a piece that
may be the start of a secret is held back until the next piece, so that a secret is found across pieces.

`bytes.find` for each form is 10 times faster than one regular expression of all of them (docs/adr/0020).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

MASK: Final = b"***"
#: Shorter values, and shorter lines of a value, are not masked, because they occur everywhere.
SHORTEST: Final = 4
_OF_ECHO: Final = dict(zip("abfnrtv\\", "\a\b\f\n\r\t\v\\", strict=True))
_LINES_OF_BASE64: Final = (76, 64)  # as `base64`, mail and PEM break them


class Masker:
    """The forms of some secrets, given as a mapping of names to values."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)
        self._names: dict[bytes, str] = {}  # of secrets, by form
        for name, value in values.items():
            for form in forms(value):
                self._names.setdefault(form, name)
        self._periods = [(form, _period(form)) for form in self._names]
        firsts: dict[int, list[bytes]] = {}
        for form in sorted(self._names, key=len, reverse=True):
            firsts.setdefault(form[0], []).append(form)
        self._by_first = firsts
        self._first = re.compile(b"[" + re.escape(bytes(firsts)) + b"]") if firsts else None
        self._longest = max(map(len, self._names), default=0)
        flat = [len(form) for form in self._names if b"\n" not in form]
        self._lines_only = len(flat) == len(self._names)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._values,)

    def __repr__(self) -> str:
        return f"<Masker of {len(self._values)} secrets>"

    def stream(self) -> Stream:
        """Return a stream that masks bytes that arrive in pieces."""
        return Stream(self)

    def data(self, data: bytes) -> bytes:
        """Return complete bytes, masked."""
        stream = Stream(self)
        return stream.feed(data) + stream.end()

    def text(self, text: str) -> str:
        """Return a complete text, masked."""
        raw = text.encode("utf-8", "surrogatepass")
        masked = self.data(raw)
        return text if masked == raw else masked.decode("utf-8", "surrogatepass")

    def secret_in(self, data: bytes) -> str | None:
        """Return the name of a secret that the bytes contain in any of its forms; None when there is none."""
        return next((name for form, name in self._names.items() if form in data), None)

    def owner(self, data: bytes) -> str:
        """Return the name of the secret that the masked bytes contain, or with which they start."""
        return next(name for form, name in self._names.items() if form in data or form.startswith(data))

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Return the places of all forms in order; places that overlap are one."""
        spans: list[tuple[int, int]] = []
        for form, period in self._periods:
            place = data.find(form)
            while place >= 0:
                spans.append((place, place + len(form)))
                place = data.find(form, place + period)
        return merged(spans) if len(spans) > 1 else spans

    def beginnings(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield, in order, where the end of the bytes may be the start of a form, and the length of that form."""
        start = max(0, len(data) - self._longest + 1)
        if self._lines_only:
            start = max(start, data.rfind(b"\n", start) + 1)
        if self._first is None or start == len(data):
            return
        for match in self._first.finditer(data, start):
            place = match.start()
            rest = data[place:]
            for form in self._by_first[rest[0]]:
                if len(form) <= len(rest):
                    break  # longest first
                if form.startswith(rest):
                    yield place, len(form)


class Stream:
    """Masks bytes that arrive in pieces; `masked` has the names of the secrets that were masked."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = b""
        self._covered = 0  # this many of the held bytes belong to a secret whose mask is written
        self.masked: set[str] = set()

    def feed(self, data: bytes) -> bytes:
        """Return the bytes that can be written now."""
        data = self._held + data if self._held else data
        spans = self._masker.spans(data)
        hold = next(self._masker.beginnings(data), (len(data), 0))[0]
        return self._take(data, hold, spans)

    def end(self) -> bytes:
        """Return the rest; half of a secret at its end is enough to be masked."""
        data, spans = self._held, self._masker.spans(self._held)
        for place, length in self._masker.beginnings(data):
            if len(data) - place >= max(SHORTEST, (length + 1) // 2):
                spans = merged([*spans, (place, len(data))])
        return self._take(data, len(data), spans)

    def _take(self, data: bytes, hold: int, spans: list[tuple[int, int]]) -> bytes:
        """Return the bytes up to `hold`, masked; hold the others back."""
        place, written = self._covered, list[bytes]()
        for start, end in spans:
            if start >= hold:
                break
            if start >= place:
                written += (data[place:start], MASK)
                self.masked.add(self._masker.owner(data[start:end]))
            place = max(place, end)
        if place < hold:
            written.append(data[place:hold])
        self._held, self._covered = data[hold:], max(0, place - hold)
        return b"".join(written)


def merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order; spans that overlap become one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _period(form: bytes) -> int:
    """Return the least distance of two occurrences: less than the length of a form that overlaps with itself."""
    table = [0] * len(form)
    for place in range(1, len(form)):
        length = table[place - 1]
        while length and form[place] != form[length]:
            length = table[length - 1]
        table[place] = length + (form[place] == form[length])
    return len(form) - table[-1]


# -- the forms of a value ----------------------------------------------------------------------------------------


def forms(value: str) -> set[bytes]:
    """Return the forms of a value that are masked: the value, each of its lines, and their usual encodings.

    A form that contains the value itself is left out, because the value is found anyway.
    """
    texts = dict.fromkeys([value, value.strip(), *(line.strip() for line in value.splitlines())])
    pieces = [text for text in texts if len(text) >= SHORTEST]
    encoded = {piece.encode() for piece in pieces}
    for piece in pieces:
        encoded |= {form.encode() for form in _escaped(piece) if piece not in form}
    if len(value) >= SHORTEST:
        raw = value.encode()
        encoded |= {raw.hex().encode(), raw.hex().upper().encode(), *_base64(raw)}
    return {form for form in encoded if len(form) >= SHORTEST}


def _escaped(text: str) -> Iterator[str]:
    """Yield a text as JSON, URLs, Python and shells write it."""
    import json
    import shlex
    from urllib.parse import quote, quote_plus

    for ascii_only in (True, False):
        once = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield from (once, once.replace("/", "\\/"), json.dumps(once, ensure_ascii=ascii_only)[1:-1])
    for url in (quote(text, ""), quote(text), quote_plus(text)):
        yield from (url, re.sub("%..", lambda match: match[0].lower(), url))
    yield from (repr(text)[1:-1], repr(text.encode())[2:-1])
    if (quoted := shlex.quote(text)) != text:
        yield quoted[1:-1]
    yield from (text.replace("'", "'\\''"), re.sub(r'(["$`\\])', r"\\\1", text))
    yield re.sub(r"([^A-Za-z0-9_@%+=:,./\n-])", r"\\\1", text)  # printf %q
    yield re.sub(r"\\([abfnrtv\\])", lambda match: _OF_ECHO[match[1]], text)  # the `echo` of dash, and printf %b


def _base64(raw: bytes) -> Iterable[bytes]:
    """Yield the base64 of bytes that does not depend on the bytes around them, for each of their three offsets."""
    import base64

    for before in range(3):
        text = base64.b64encode(bytes(before) + raw)
        fixed = text[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]
        pieces = [fixed]
        if not before:
            pieces += [fixed[at : at + width] for width in _LINES_OF_BASE64 for at in range(0, len(fixed), width)]
        for piece in pieces:
            if len(piece) >= 2 * SHORTEST or piece is fixed:
                yield from (piece, piece.translate(bytes.maketrans(b"+/", b"-_")))
