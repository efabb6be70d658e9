"""What only bash understands, in a script of `sh` and in what `sh` prints when it fails. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_LONGEST: Final = 65_536  # characters of a script that is looked through
_BASH: Final = "this is bash: write `shell: bash`"
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
#: What sh prints of it, behind its name and a line number.
_IN_OUTPUT: Final = (
    r"\[\[: not found",
    r"(?:source|declare|typeset|shopt|pushd|popd|readarray|mapfile|let|function|compgen|complete): not found",
    r"set: Illegal option -o pipefail",
    r"[Ss]yntax error: \"?\(\"? unexpected",
    r"[Ss]yntax error: redirection unexpected",
    r"\w+=\(.*: not found",
    r"local: -\w: bad variable name",
)
_SAID_BY_SH: Final = re.compile(r"(?:\S*/)?(?:sh|dash|ash|bash)(?:\[\d+\])?: (?:line )?(?:\d+: )?(?P<words>.*)")
_EXPRESSION: Final = r"\$\{(?:params|tasks|needs|secrets|matrix|item|workflow|inputs)\."


#: Quoted text, escapes, comments and here-documents: what stands in them is no word of the script's own shell.
_QUOTED: Final = re.compile(
    r"""\$'(?:[^'\\]|\\.)*' | '[^']*' | "(?:[^"\\]|\\.)*" | \\. | (?:^|(?<=\s))\#[^\n]*
    | <<-?[ \t]*(["']?)(?P<end>\w+)\1[^\n]*\n(?:.*\n)*?[ \t]*(?P=end)$""",
    re.MULTILINE | re.VERBOSE,
)


def bash_only(script: str) -> str:
    """What of the script only bash understands, in words; nothing where nothing is seen of that kind."""
    if len(script) > _LONGEST:
        return ""
    bare = _QUOTED.sub(_unquoted, script)
    for pattern, name in _IN_SCRIPT:
        found = re.search(pattern, bare, re.MULTILINE)
        if found:
            return name or found[0].strip(" ;&|\n")
    return ""


def _unquoted(found: re.Match[str]) -> str:
    """What the shell itself reads of a quoted text: the substitutions between double quotes."""
    text = found[0]
    if text.startswith('"'):
        return " ".join(["_", *re.findall(r"\$\{[^}]*\}", text)])
    return text[:2] if text.startswith("$'") else "_" if text[0] in "'\\" else ""


def hint_about_failure(exit_code: int | None, lines: Sequence[str]) -> str:
    """What to do about a script that failed, from its exit code and the last lines that it printed; often nothing."""
    said = [match["words"] for line in lines if (match := _SAID_BY_SH.match(line.strip()))]
    if exit_code == 126:
        refused = [match[1] for one in said if (match := re.match(r"(\S*/\S+): Permission denied", one))]
        return f"it is not executable: chmod +x {refused[-1]}, or `sh {refused[-1]}`" if refused else ""
    if exit_code not in (1, 2, 127):
        return ""
    if any("ad substitution" in one for one in said):
        return "an expression is written ${{ … }}; a substitution that only bash has needs `shell: bash`"
    return _BASH if any(re.search(pattern, one) for one in said for pattern in _IN_OUTPUT) else ""


def hint_about_syntax(script: str) -> str:
    """What to do about a script of `sh` that it cannot read."""
    if re.search(_EXPRESSION, script):
        return "an expression is written ${{ … }}"
    return _BASH if bash_only(script) else ""
