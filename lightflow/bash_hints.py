"""Bash syntax in scripts of `sh`. Pure."""

from __future__ import annotations

import re
from typing import Final

_LONGEST: Final = 65_536  # characters of a script that is looked through
USE_BASH: Final = "this is bash: write `shell: bash`"
_IN_SCRIPT: Final = (
    (r"(?:^|[;&|(]|\b(?:if|while|until|then|do|else|elif|!))\s*\[\[\s", "[["),
    (r"(?:^|[;&|])\s*(?:declare|typeset|readarray|mapfile|shopt|pushd|popd|let)\b(?!=)", ""),
    (r"\bfor\s+\(\(", "for (("),
    (r"(?:^|[;&|]|\b(?:if|while|until|then|do|else|elif|!))\s*\(\(\s*!?\w+\s*(?:\+\+|--|[-+*/%]?=|[<>]|\)\))", "(( ))"),
    (r"(?:^|[;&|]|\b(?:then|do|else))\s*source\s", "source"),
    (r"(?:^|[;&|]|\b(?:then|do|else))\s*[A-Za-z_]\w*\+?=\(", "an array"),
    (r"\$\{[A-Za-z_]\w*\[", "an array"),
    (r"\$\{![A-Za-z_]|\$\{[A-Za-z_]\w*(?:\^|,|/|:[0-9])", "a substitution"),
    (r"[<>]\(", "<( )"),
    (r"<<<", "<<<"),
    (r"\bset\s+(?:-\w+\s+)*-\w*o\s+pipefail\b", "pipefail"),
    (r"(?:^|[;&|])\s*function\s+[A-Za-z_]", "function"),
    (r"\$'", "$'…'"),
    (r"(?:^|\s)&>", "&>"),
    (r"\{[0-9a-zA-Z]+\.\.[0-9a-zA-Z]+\}", "{1..3}"),
)
_EXPRESSION: Final = r"\$\{(?:params|tasks|needs|secrets|matrix|item|workflow|inputs)\."


#: Quoted text, escapes, comments and here-documents: their content is not read by the shell of the script.
_QUOTED: Final = re.compile(
    r"""\$'(?:[^'\\]|\\.)*' | '[^']*' | "(?:[^"\\]|\\.)*" | \\. | (?:^|(?<=\s))\#[^\n]*
    | <<-?[ \t]*(["']?)(?P<end>\w+)\1[^\n]*\n(?:.*\n)*?[ \t]*(?P=end)$""",
    re.MULTILINE | re.VERBOSE,
)


def bash_only(script: str) -> str:
    """Return in words which parts of the script only bash understands; empty if none is recognised."""
    if len(script) > _LONGEST:
        return ""
    bare = _QUOTED.sub(_unquoted, script)
    for pattern, name in _IN_SCRIPT:
        match = re.search(pattern, bare, re.MULTILINE)
        if match:
            return name or match[0].strip(" ;&|\n")
    return ""


def _unquoted(match: re.Match[str]) -> str:
    """Return the parts of a quoted text that the shell itself reads: the substitutions between double quotes."""
    text = match[0]
    if text.startswith('"'):
        return " ".join(["_", *re.findall(r"\$\{[^}]*\}", text)])
    return text[:2] if text.startswith("$'") else "_" if text[0] in "'\\" else ""


def hint_about_syntax(script: str) -> str:
    """Return how to fix a script that `sh` cannot read."""
    if re.search(_EXPRESSION, script):
        return "an expression is written ${{ … }}"
    return USE_BASH if bash_only(script) else ""
