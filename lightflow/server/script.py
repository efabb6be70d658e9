"""The script of the pages: all modules in one file, without comments and without spaces that say nothing.

Compressed together the modules take two thirds of what they take one by one, and a browser reads one file. All of them
have one scope then: two modules cannot declare the same name at their top level. A vendored module stays as
it was published, in a function of its own, because other modules have its short names, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

_IMPORT: Final = re.compile(r'^import\b[^;]*?\bfrom "\./([\w./]+)";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?:\{[^}]*\};\n|(?=(?:async function|function|class|const) ))", re.MULTILINE)
_VENDORED: Final = "vendor/"
_VENDORED_IMPORT: Final = re.compile(r'^import\{(?P<names>[^}]*)\}from"\./(?P<name>\w+)\.js";')
_VENDORED_EXPORT: Final = re.compile(r"export(?:\{(?P<names>[^}]*)\};?\s*$| default )")
_AS: Final = re.compile(r"([\w$]+) as ([\w$]+)")
_IMPORTED: Final = r"\1:\2"
_EXPORTED: Final = r"\2:\1"
_NAMES: Final = re.compile(r"^import (?P<names>[^;]*?),? from \"\./vendor/(?P<name>\w+)\.js\";", re.DOTALL)

_TOKEN: Final = re.compile(
    r"""(?P<gap>(?:\s+|//[^\n]*|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)+)|(?P<code>[^\s"'`/(){}\[\];]+)"""
    r"""|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<sign>.)"""
)
_PATTERN: Final = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/\w*")
_TEMPLATE: Final = re.compile(r"[`}](?:[^`\\$]|\\.|\$(?!\{))*(?:`|\$\{)", re.DOTALL)
_STYLE_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_AROUND_SIGNS: Final = re.compile(r"\s*([{};,>]|:(?=\s))\s*")  # a colon before a space does not belong to a selector
_LINE_END: Final = re.compile(r"\s*\n\s*")
_BETWEEN_TAGS: Final = re.compile(r"(?<=[>}])\n(?=[<$])")  # htm leaves out the same
_BEFORE_END: Final = re.compile(r"\s+(?=/>)")
_END_TAG: Final = re.compile(r"</\w+>")
_QUOTED_WORD: Final = re.compile(r"(?<=[\w-]=)\"([\w.-]+)\"(?=[\s/>])")  # the value of an attribute
_CONST: Final = re.compile(r"(?<![\w$.])const$")
_ANY_END_TAG: Final = "<//>"  # of htm: it ends the element that is open
_PATTERN_FOLLOWS: Final = re.compile(r"(?:^|[^\w$)\]}\"'`]|\b(?:return|typeof|case|in|of|throw|else|await))$")
_OPERATORS: Final = "?:&|=*<>"  # not + and -, which may be two of one, nor / of patterns
_BEFORE_VALUE: Final = "{([;," + _OPERATORS  # a line that ends with one of these is continued
_AFTER_VALUE: Final = "})];,." + _OPERATORS  # a line that begins with one of these continues the one before, or ends it
_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")  # an expression of a template is between "…${" and "}…", too
_WITH_BLOCK: Final = frozenset(
    ["async", "case", "catch", "class", "do", "else", "finally", "for", "function", "if", "switch", "try", "while"]
)  # a brace ends these statements


def joined_script(read: Callable[[str], str], main: str) -> str:
    """Return a module and all modules that it imports as one, which imports and exports nothing.

    Args:
        read: returns the text of a module by its name, such as `kit.js`.
        main: the name of the module that is evaluated last.
    """
    texts = _in_order(read, main)
    imports = {
        match[1]: match[0] for text in texts for match in _IMPORT.finditer(text) if match[1].startswith(_VENDORED)
    }
    vendored = [_as_function(name, read(name)) + _assigned(line) for name, line in imports.items()]
    bodies = [_EXPORT.sub("", _IMPORT.sub("", text)) for text in texts]
    return "".join(vendored) + packed_script("\n".join(bodies))


def packed_script(text: str) -> str:
    """Return a script without comments, and with the white space that separates words or ends statements.

    `const` becomes `let`, declarations that follow each other become one, and no semicolon is before a brace that ends
    a block.
    """
    parts, last, gap, statements = list[str](), "\n", "", _Statements()
    for content, kind in _tokens(text):
        if kind == "gap":
            gap = content
            continue
        if kind == "code":
            content = _CONST.sub("let", content)
        if statements.continues_declaration(content):
            parts[-1] = last = ","
            gap = ""
            continue
        if content == "}" and last == ";":
            parts[-1] = parts[-1].removesuffix(";")
            gap = ""
        if gap:
            parts.append(_separator(last, content[0], is_line_end="\n" in gap))
            gap = ""
        parts.append(content)
        last = content[-1]
    return "".join(parts) + "\n"


class _Statements:
    """Follows the statements of a script, in which each one but a block ends with a semicolon."""

    def __init__(self) -> None:
        #: inside each open bracket the first words of the statement before, and of the present one
        self._words = [("", "")]

    def continues_declaration(self, content: str) -> bool:
        """Return whether the next token begins a declaration after another one."""
        before, first = self._words[-1]
        if content.startswith(_CLOSING):
            self._words.pop()
            if content == "}" and self._words[-1][1] in _WITH_BLOCK:
                self._words[-1] = ("", "")
        elif content == ";":
            self._words[-1] = (first, "")
        elif not first:
            self._words[-1] = ("", content)
        if content.endswith(_OPENING):
            self._words.append(("", ""))
        return not first and before == content == "let"


def packed_style(text: str) -> str:
    """Return a stylesheet without comments, and without the white space around its signs."""
    return _AROUND_SIGNS.sub(r"\1", _STYLE_COMMENT.sub("", text)).strip()


def _packed_markup(text: str) -> str:
    """Return a part of a template of markup with one character for the end of a line, and none between two tags.

    The names of end tags are left out, and the quotes around a word.
    """
    packed = _BEFORE_END.sub("", _BETWEEN_TAGS.sub("", _LINE_END.sub("\n", text)))
    return _QUOTED_WORD.sub(r"\1", _END_TAG.sub(_ANY_END_TAG, packed))


def _as_function(name: str, text: str) -> str:
    """Return a vendored module as a function of which the value has what the module exports."""

    def assigned(match: re.Match[str]) -> str:
        return f"const{{{_AS.sub(_IMPORTED, match['names'])}}}=${match['name']};"

    def returned(match: re.Match[str]) -> str:
        return f"return{{{_AS.sub(_EXPORTED, match['names'])}}}" if match["names"] else "return "

    body = _VENDORED_EXPORT.sub(returned, _VENDORED_IMPORT.sub(assigned, text))
    return f"const ${name.removeprefix(_VENDORED).removesuffix('.js')}=(()=>{{{body}}})();\n"


def _assigned(line: str) -> str:
    """Return an import of a vendored module as an assignment."""
    return _NAMES.sub(lambda match: f"const {match['names']}=${match['name']};", line)


def _in_order(read: Callable[[str], str], main: str) -> list[str]:
    """Return the texts of modules, each after those that it imports."""
    seen, texts = set[str](), list[str]()

    def visit(name: str) -> None:
        if name in seen or name.startswith(_VENDORED):
            return
        seen.add(name)
        text = read(name)
        for match in _IMPORT.finditer(text):
            visit(match[1])
        texts.append(text)

    visit(main)
    return texts


def _separator(before: str, after: str, *, is_line_end: bool) -> str:
    """Return what has to stay of white space between two characters."""
    if is_line_end:
        return "" if before in _BEFORE_VALUE + "\n" or after in _AFTER_VALUE else "\n"
    are_words = all(each.isalnum() or each in "_$" for each in (before, after))
    could_join = before in "+-/" and after in "+-/"
    return " " if are_words or could_join else ""


def _tokens(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield the parts of a script, each with its kind: a group of `_TOKEN`, of which `gap` is white space and comments.

    A template is several: the text up to an expression, the expression, the rest.
    """
    at, depth, before = 0, 0, ""
    templates = list[tuple[int, bool]]()  # of each open template: the open braces around it, and whether it is markup
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match is not None
        content, kind = match[0], match.lastgroup
        resumes = content == "}" and bool(templates) and depth == templates[-1][0]
        if content == "`" or resumes:
            match = _matched(_TEMPLATE, text, at)
            is_markup = templates.pop()[1] if resumes else before.endswith("html")
            if match[0].endswith("${"):
                templates.append((depth, is_markup))
            content = _packed_markup(match[0]) if is_markup else match[0]
        elif content == "/" and _PATTERN_FOLLOWS.search(before):
            match = _matched(_PATTERN, text, at)
            content = match[0]
        else:
            depth += {"{": 1, "}": -1}.get(content, 0)
        at = match.end()
        if kind != "gap":
            before = content
        yield content, kind


def _matched(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    match = pattern.match(text, at)
    if match is None:
        raise ValueError(f"a template or a pattern of a script does not end: {text[at : at + 60]!r}")
    return match
