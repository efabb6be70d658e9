"""Which words, and which input, of a command are evaluated by a shell.

A word is its text without quotes, with NUL for each part that is not known before the script runs.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from lightflow.expressions.shell import reasons
from lightflow.expressions.shell.reasons import Reason

UNKNOWN: Final = "\0"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SHELLS: Final = _words("sh dash ash bash rbash ksh ksh93 mksh oksh pdksh yash zsh fish csh tcsh")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_STANDARD_INPUT: Final = re.compile(r"-|/dev/stdin|/dev/fd/\d+|/proc/(self|\d+)/fd/\d+")
#: Programs that start a command: their options with a value in the next word, and the number of operands before the
#: command.
_WRAPPERS: Final[dict[str, tuple[frozenset[str], int]]] = {
    name: (_words(options), operands)
    for name, options, operands in (
        ("builtin", "", 0),
        ("busybox", "", 0),
        ("caffeinate", "-t -w", 0),
        ("chroot", "", 1),
        ("chrt", "-T -P -D", 1),
        ("command", "", 0),
        ("dbus-run-session", "--config-file --dbus-daemon", 0),
        ("doas", "-u -C", 0),
        ("dumb-init", "-r --rewrite", 0),
        ("env", "-u --unset -C --chdir -a --argv0", 0),
        ("exec", "-a", 0),
        ("fakeroot", "-l -s -i -b", 0),
        ("flock", "-w --timeout --wait -E --conflict-exit-code", 1),
        ("gosu", "", 1),
        ("ionice", "-c --class -n --classdata -p -P -u", 0),
        ("ltrace", "-e -o -p -u -n -a -s -l", 0),
        ("nice", "-n --adjustment", 0),
        ("nohup", "", 0),
        ("noglob", "", 0),
        ("nocorrect", "", 0),
        ("numactl", "-m -N -C -p -i", 0),
        ("proxychains", "-f", 0),
        ("runuser", "-u --user -g --group -G --supp-group", 0),
        ("setpriv", "--reuid --regid --groups", 0),
        ("setsid", "", 0),
        ("sshpass", "-p -f -d -P", 0),
        ("stdbuf", "-i --input -o --output -e --error", 0),
        ("strace", "-e -o -p -s -a -u -E -O -S -P", 0),
        ("su-exec", "", 1),
        ("sudo", "-u --user -g --group -h --host -p --prompt -C -r --role -t --type -T -D --chdir -R --chroot -U", 0),
        ("systemd-run", "-u --unit -p --property -M -H -E --setenv --uid --gid --slice --description", 0),
        ("taskset", "", 1),
        ("time", "-f --format -o --output", 0),
        ("timeout", "-s --signal -k --kill-after", 1),
        ("tini", "-p -e", 0),
        ("torsocks", "", 0),
        ("toybox", "", 0),
        ("unbuffer", "", 0),
        ("xvfb-run", "-n -f -s -p -e -w --server-args --server-num", 0),
    )
}
#: Programs that start none of their words as a command: `grep sh` starts no shell.
_PLAIN: Final = _words("""
    : [ ack ag apk apt apt-get aptitude awk base64 basename brew cat cd chgrp chmod chown chsh cmp column comm cp
    curl cut date dd df diff dirname dnf dpkg du echo egrep exit export expr false fgrep file fold gawk gcloud
    getent gpg grep gunzip gzip hash head id install jobs journalctl join jq kill killall less ln logger ls mail
    mailx man mawk md5sum mkdir mktemp more mv mysql nl notify-send openssl pacman paste pgrep pidof pip pip3 pkill
    popd printf ps psql pushd pwd read readlink realpath redis-cli return rev rg rm rmdir rpm sed seq service set
    sha1sum sha256sum shift sleep sort sqlite3 stat systemctl tac tail tar tee test touch tr true type umask uniq
    unset unzip useradd usermod wait wc wget whereis which who xz yq yum zip zypper
""")
#: The value of these options is shell text.
_TEXT_OPTIONS: Final[dict[str, frozenset[str]]] = {
    name: _words(options)
    for name, options in (
        ("flock", "-c --command"),
        ("fly", "-C --command"),
        ("flyctl", "-C --command"),
        ("gcloud", "--command"),
        ("nix-shell", "--run --command"),
        ("npm", "-c --call"),
        ("npx", "-c --call"),
        ("runuser", "-c --command --session-command"),
        ("script", "-c --command"),
        ("sg", "-c"),
        ("su", "-c --command --session-command"),
        ("vagrant", "-c --command"),
    )
}
#: Options with shell text of programs that read their own input nevertheless.
_TEXT_IN: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(["docker", "podman", "nerdctl"], ("--health-cmd",)),
    **dict.fromkeys(["make", "gmake"], ("-E", "--eval", "SHELL")),
}
#: Programs whose operands are shell text: their options with a value in the next word.
_TEXT_OPERANDS: Final[dict[str, frozenset[str]]] = {
    name: _words(options)
    for name, options in (
        ("eval", ""),
        ("alias", ""),
        ("bind", "-f -q -u -m -r"),
        ("clush", "-w -g -x -l -f -t -u"),
        ("dsh", "-m -g -f"),
        ("parallel-ssh", "-H -h -l -p -t -o -e -x -X"),
        ("pdsh", "-w -g -x -l -f -t -u -R"),
        ("pssh", "-H -h -l -p -t -o -e -x -X"),
        ("hyperfine", "-w --warmup -r --runs -m -M -S --shell --export-json --export-markdown --export-csv -n"),
        ("parallel", "-j --jobs -a --arg-file --joblog --delay --timeout --retries -S --sshlogin -C --colsep -d -N -n"),
        ("watch", "-n --interval"),
    )
}
_SSH_VALUES: Final = _words("-B -b -c -D -E -e -F -I -i -J -L -l -m -O -o -P -p -Q -R -S -W -w")
_SSH_OPTIONS: Final = re.compile(r"(-o)?\s*(ProxyCommand|LocalCommand|RemoteCommand|KnownHostsCommand)\b", re.I)
_SSH: Final = frozenset(["ssh", "autossh", "slogin", "rsh"])
#: Programs that start a shell if no command is named.
_SHELL_BY_DEFAULT: Final = _words("chroot fakeroot newgrp nsenter script sg su unshare")
_OVER_SSH: Final = _SSH | {"scp", "sftp", "sshfs", "rsync", "mosh", "ssh-copy-id"}
_TMUX: Final = _words(
    "new new-session neww new-window splitw split-window respawnp respawn-pane respawnw respawn-window run run-shell "
    "if if-shell pipep pipe-pane send send-keys display-popup popup"
)
_TMUX_VALUES: Final = _words("-s -n -t -c -F -x -y -e -f -L -S -l -b")
_GIT_KEYS: Final = re.compile(
    r"(alias\.|core\.(sshcommand|pager|editor|fsmonitor|askpass|gitproxy)\b|sequence\.editor\b|credential\.|pager\."
    r"|diff\.external\b|(diff|merge|filter|difftool|mergetool)\..*\.(cmd|command|driver|textconv|clean|smudge|process)\b)",
    re.I,
)
_GIT_OPTIONS: Final = frozenset(
    ["-x", "--exec", "--extcmd", "--env-filter", "--tree-filter", "--index-filter", "--msg-filter", "--commit-filter",
     "--parent-filter", "--tag-name-filter", "--upload-pack", "--receive-pack"]
)  # fmt: skip
_FIND_ACTIONS: Final = frozenset(["-exec", "-execdir", "-ok", "-okdir"])
_XARGS_VALUES: Final = _words(
    "-a --arg-file -d --delimiter -E -L -n --max-args -P --max-procs -s --max-chars --process-slot-var"
)
_DECLARING: Final = frozenset(["declare", "typeset", "local", "readonly", "export"])
#: Builtins whose operands are names of variables: their options with a value.
_NAMING: Final[dict[str, str]] = {"read": "ptnNdiu", "mapfile": "dnOsuCc", "readarray": "dnOsuCc", "unset": ""}
#: Programs that do not print their words, unless an option says so; the files that they read count as trusted.
_FETCHING: Final = _words("""
    : [ base64 bunzip2 bzcat bzip2 cat cp curl cut date declare export false gunzip gzcat gzip head kill local ln mkdir
    mktemp mv nproc od read rm rmdir set shift sleep sort tail tar test touch true typeset uniq unset unzip wait wc wget
    xz xzcat zcat zstd zstdcat
    """)


class Study(NamedTuple):
    """How a command evaluates its words and its input."""

    evaluated: dict[int, Reason]  #: the words that are shell text, names or formulas, by number
    reads: bool = False  #: whether it reads shell commands from its standard input
    sources: bool = False  #: whether it reads shell commands from the files that it names


def study(words: Sequence[str], functions: Collection[str] = ()) -> Study:
    """Return how the command with these words evaluates them. `functions` are the functions of the script."""
    return _Command(words, functions).study(0)


def name_of(words: Sequence[str]) -> str:
    """Return the program that is started in the end, without programs such as `sudo` that start it."""
    start: int | None = 0
    place = 0
    while start is not None and start < len(words):
        place = start
        start = _started(words, place)
    return _base(words[place]) if words else ""


def starts_interactive(words: Sequence[str]) -> bool:
    """Return whether an interactive shell is started (`sh -i`), which expands ENV and reads the file it names."""
    shells = [n for n, word in enumerate(words) if _base(word) in SHELLS]
    return any(re.fullmatch(r"-[a-z]*i[a-z]*", word) for n in shells[:1] for word in words[n + 1 :])


def prints_its_words(words: Sequence[str]) -> bool:
    """Return whether the output of a command can contain its words."""
    name = name_of(words)
    if name == "curl":
        return any(re.match(r"-[a-zA-Z]*w|--write-out", word) for word in words)
    if name == "date":
        return any(UNKNOWN in word and word.startswith("+") for word in words)
    return name not in _FETCHING


def _base(word: str) -> str:
    # The name may begin with a substitution that prints nothing: `$x`eval.
    return os.path.basename(word.replace(UNKNOWN, ""))


def _started(words: Sequence[str], start: int) -> int | None:
    """Return where the command of the wrapper at `start` starts; None if it is not a wrapper, or runs nothing."""
    name = _base(words[start])
    if name not in _WRAPPERS:
        return None
    values, operands = _WRAPPERS[name]
    place = start + 1
    while place < len(words):
        word = words[place]
        if word == "--":
            place += 1
            break
        if not word.startswith("-") and not _ASSIGNMENT.match(word):
            break
        place += 2 if word in values else 1
    place += operands
    return place if place < len(words) else None


def _operands(words: Sequence[str], start: int, values: Collection[str] = ()) -> Iterator[int]:
    """Yield the numbers of the words that are neither options nor values of options."""
    place, only = start, False
    while place < len(words):
        word = words[place]
        if only or not word.startswith("-") or word == "-":
            yield place
        elif word == "--":
            only = True
        elif word in values:
            place += 1
        place += 1


class _Command:
    def __init__(self, words: Sequence[str], functions: Collection[str]) -> None:
        self.words, self.functions = words, functions

    def study(self, start: int) -> Study:
        """Return how the command that begins at a word evaluates its words."""
        if start >= len(self.words):
            return Study({})
        name = _base(self.words[start])
        if name in SHELLS:
            return self._shell(start)
        method = {"find": self._find, "xargs": self._xargs, "env": self._env, "git": self._git}.get(name)
        if method is not None:
            return method(start)
        if name in _SSH:
            return self._ssh(start)
        text = self._text(start, name)
        if name in _WRAPPERS:
            inner = _started(self.words, start)
            return text if inner is None else _both(text, self.study(inner))
        special = self._builtin(start, name)
        if special is not None:
            return special
        if name in _PLAIN:
            return text
        return _both(text, self._anywhere(start))

    def _rest(self, start: int, reason: Reason, end: int | None = None) -> dict[int, Reason]:
        return dict.fromkeys(range(start, len(self.words) if end is None else end), reason)

    def _text(self, start: int, name: str) -> Study:
        """Handle a program that passes some of its words to a shell."""
        words, evaluated = self.words, dict[int, Reason]()
        reason = reasons.evaluated(name)
        reads = name in ("at", "batch", "crontab", "parallel") or self._is_shell(start, name)
        options = _TEXT_OPTIONS.get(name, frozenset())
        for place in range(start + 1, len(words)):
            word = words[place]
            if words[place - 1] in options or any(word.startswith(f"{item}=") for item in options if item[:2] == "--"):
                evaluated[place] = reasons.SCRIPT if name == "su" else reason
                reads = False
            elif "-c" in options and place > start + 1 and re.fullmatch(r"-[a-z]+c", words[place - 1]):
                evaluated[place] = reasons.SCRIPT if name == "su" else reason
            elif name in _OVER_SSH and (_SSH_OPTIONS.match(word)):
                evaluated[place] = reasons.evaluated(name)
            elif (words[place - 1] if "=" not in word else word.split("=")[0]) in _TEXT_IN.get(name, ()):
                evaluated[place] = reason
        if name in _TEXT_OPERANDS:
            operands = list(_operands(words, start + 1, _TEXT_OPERANDS[name]))
            stop = next((item for item in operands if words[item].startswith(":::")), len(words))
            if operands:
                # parallel quotes the words after `:::`, unless there are no others: then they are the commands.
                evaluated |= self._rest(operands[0], reason, stop if stop > operands[0] else None)
                reads = False
        if name == "tmux" and any(word in _TMUX for word in words[start + 1 :]):
            evaluated |= dict.fromkeys(list(_operands(words, start + 1, _TMUX_VALUES))[1:], reason)
        if name == "screen" and "stuff" in words:
            evaluated |= self._rest(words.index("stuff") + 1, reason)
        if name == "adb" and "shell" in words[start + 1 :]:
            evaluated |= self._rest(words.index("shell", start + 1) + 1, reason)
        if name == "entr" and any(re.match(r"-[a-z]*s", word) for word in words[start + 1 :]):
            evaluated |= dict.fromkeys(_operands(words, start + 1), reason)
        if name in ("make", "gmake"):
            reads = any(
                (before in ("-f", "--file") and _STANDARD_INPUT.fullmatch(word)) or word in ("-f-", "--file=-")
                for before, word in zip(words[start:], words[start + 1 :], strict=False)
            )
        if name == "crontab":
            reads = not any(True for item in _operands(words, start + 1, ("-u",)) if words[item] != "-")
        return Study(evaluated, reads)

    def _is_shell(self, start: int, name: str) -> bool:
        """Return whether a program that starts commands starts a shell because no command is named."""
        words = self.words[start + 1 :]
        if name in ("sudo", "doas"):
            options = any(re.fullmatch(r"-[a-zA-Z]*[is]|--login|--shell", word) for word in words)
            return options and _started(self.words, start) is None
        return name in _SHELL_BY_DEFAULT and (_started(self.words, start) is None or name == "su")

    def _shell(self, start: int) -> Study:
        words, place, script, interactive = self.words, start + 1, False, False
        while place < len(words):
            word = words[place]
            if word == "--":
                place += 1
                break
            if not word.startswith(("-", "+")) or word == "-":
                break
            if re.fullmatch(r"[-+][a-zA-Z]+", word):
                script = script or (word[0] == "-" and "c" in word)
                interactive = interactive or "s" in word
                place += word[-1] in "oO"
            elif word in ("--rcfile", "--init-file"):
                place += 1
            place += 1
        if script:
            return Study({place: reasons.SCRIPT}, place < len(words) and _text_reads(words[place]), sources=True)
        reads = place >= len(words) or interactive or bool(_STANDARD_INPUT.fullmatch(words[place]))
        return Study({}, reads, sources=True)

    def _ssh(self, start: int) -> Study:
        words, evaluated = self.words, dict[int, Reason]()
        for place in range(start + 1, len(words)):
            if _SSH_OPTIONS.match(words[place]):
                evaluated[place] = reasons.evaluated("ssh")
        place = start + 1
        values = _SSH_VALUES | ({"-M"} if _base(words[start]) == "autossh" else set())
        operands = list(_operands(words, place, values))
        if not operands:
            return Study(evaluated, reads=True)
        command = operands[0] + 1  # after the host; ssh accepts options there too
        while command < len(words) and words[command].startswith("-"):
            command += 2 if words[command] in values else 1
        evaluated |= self._rest(command, reasons.REMOTE)
        if command >= len(words):
            return Study(evaluated, reads=not {"-N", "-f", "-W"} & set(words[start:command]))
        text = " ".join(words[command:])
        return Study(evaluated, reads=_text_reads(text))

    def _find(self, start: int) -> Study:
        result = Study({})
        for place in range(start + 1, len(self.words)):
            if self.words[place - 1] in _FIND_ACTIONS:
                stops = (n for n in range(place, len(self.words)) if self.words[n] in (";", "+"))
                result = _both(result, _Command(self.words[: next(stops, None)], self.functions).study(place))
        return result._replace(reads=False)

    def _xargs(self, start: int) -> Study:
        words, place, replaced = self.words, start + 1, ""
        while place < len(words) and words[place].startswith("-"):
            word = words[place]
            if word in ("-I", "-J", "--replace") and place + 1 < len(words):
                replaced = words[place + 1] if word != "--replace" else "{}"
                place += word != "--replace"
            elif re.match(r"-[IJ].|-i|--replace=", word):
                replaced = re.sub(r"^(-[IJi]|--replace=)", "", word) or "{}"
            elif word in _XARGS_VALUES:
                place += 1
            place += 1
        if place >= len(words):
            return Study({})
        without_input = _Command(words, self.functions).study(place)
        behind = [] if replaced else [UNKNOWN]
        with_input = _Command([*words, *behind], self.functions).study(place)
        filled = [n for n in range(place, len(words)) if replaced and replaced in words[n]] or [len(words)]
        reads = any(item in with_input.evaluated for item in filled)
        return Study(without_input.evaluated, reads, without_input.sources)

    def _env(self, start: int) -> Study:
        words, evaluated = self.words, dict[int, Reason]()
        for place in range(start + 1, len(words)):
            if re.match(r"-[a-zA-Z]*S|--split-string", words[place]):
                inside = re.sub(r"^(-[a-zA-Z]*S|--split-string=?)", "", words[place])
                text = inside or (words[place + 1] if place + 1 < len(words) else "")
                evaluated |= self._rest(place, reasons.evaluated("env -S"), place + (1 if inside else 2))
                return _both(Study(evaluated), Study({}, _text_reads(" ".join([text, *words[place + 2 :]]))))
            if not words[place].startswith("-") and not _ASSIGNMENT.match(words[place]):
                break
        inner = _started(words, start)
        return self.study(inner) if inner is not None else Study({})

    def _git(self, start: int) -> Study:
        words, evaluated, reason = self.words, dict[int, Reason](), reasons.evaluated("git")
        config = "config" in words[start + 1 :]
        for place in range(start + 1, len(words)):
            word, before = words[place], words[place - 1]
            if before == "-c" or word.startswith(("-c", "--config")):
                if _GIT_KEYS.match(re.sub(r"^(-c|--config=)", "", word)):
                    evaluated[place] = reason
            elif config and _GIT_KEYS.match(before) and "=" not in before:
                evaluated[place] = reason
            elif before == "-x" and "clean" in words:
                continue
            elif before in _GIT_OPTIONS or word.split("=")[0] in _GIT_OPTIONS:
                evaluated[place] = reason
        if "bisect" in words and "run" in words:
            inner = self.study(words.index("run") + 1)
            return _both(Study(evaluated), inner._replace(reads=False))
        if "submodule" in words and "foreach" in words:
            evaluated |= self._rest(words.index("foreach") + 1, reason)
        return Study(evaluated)

    def _builtin(self, start: int, name: str) -> Study | None:
        """Handle a builtin that evaluates code or names of variables; return None for another command."""
        words = self.words
        behind = range(start + 1, len(words))
        if name in (".", "source"):
            return Study({}, any(_STANDARD_INPUT.fullmatch(words[n]) for n in behind[:1]), sources=True)
        if name == "trap":
            first = next(_operands(words, start + 1), None)
            return Study({} if first is None else {first: reasons.evaluated("trap")})
        if name in ("let", "((") and start:
            return Study(self._rest(start + 1, reasons.formula("let")))
        if name in _NAMING:
            return self._naming(start, name)
        if name in ("[", "test", "printf", "wait"):
            options = {"[": ("-v", "-R"), "test": ("-v", "-R"), "printf": ("-v",), "wait": ("-p",)}[name]
            places = behind[1:2] if name in ("printf", "wait") else behind[1:]
            return Study({n: reasons.names(f"{name} {words[n - 1]}") for n in places if words[n - 1] in options})
        if name == "getopts":
            return Study(self._rest(start + 2, reasons.names(name), start + 3))
        if name in ("compgen", "complete"):
            return Study({n: reasons.evaluated(name) for n in behind if words[n - 1] in ("-W", "-C", "-F")})
        if name in _DECLARING:  # after `command` or `builtin`; without them the declaration is syntax
            whole = [n for n in behind if "=" not in words[n].split(UNKNOWN)[0] and not words[n].startswith("-")]
            if any(re.match(r"[-+][a-zA-Z]*[in]", words[n]) for n in behind):
                return Study(self._rest(start + 1, reasons.formula(name)))
            return Study(dict.fromkeys(whole, reasons.names(name)))
        return None

    def _naming(self, start: int, name: str) -> Study:
        words, evaluated, place, only = self.words, dict[int, Reason](), start + 1, False
        values = _NAMING[name]
        while place < len(words):
            word = words[place]
            if only or not word.startswith("-") or len(word) < 2:
                evaluated[place] = reasons.names(name)
            elif word == "--":
                only = True
            else:
                letters = word[1:].split(UNKNOWN)[0]
                valued = next((n for n, item in enumerate(letters) if item in values or (item == "a" and values)), None)
                if valued is not None and letters[valued] == "a":
                    evaluated[place] = evaluated[place + 1] = reasons.names(name)
                if valued is not None and letters[valued] == "C":
                    evaluated[place] = evaluated[place + 1] = reasons.evaluated(name)
                if valued is not None and valued == len(letters) - 1 and word[-1] != UNKNOWN and letters[valued] != "a":
                    place += 1
                    if letters[valued] == "C":
                        evaluated[place] = reasons.evaluated(name)
            place += 1
        return Study(evaluated)

    def _anywhere(self, start: int) -> Study:
        """Handle a program that may start one of its words: look for shells among them."""
        words, result = self.words, Study({})
        function = words[start] == UNKNOWN or _base(words[start]) in self.functions
        for place in range(start + 1, len(words)):
            name = _base(words[place])
            if words[place - 1] == "--entrypoint" or words[place].startswith("--entrypoint="):
                if name.removeprefix("--entrypoint=") in SHELLS:
                    result = _both(result, self._entrypoint(place))
            elif name in SHELLS or name in _SSH or (function and (name in _TEXT_OPERANDS or name in _TEXT_OPTIONS)):
                result = _both(result, self.study(place))
                break
        return result

    def _entrypoint(self, place: int) -> Study:
        """Handle a container whose entrypoint is a shell: the options of the shell come after the image."""
        for n in range(place + 1, len(self.words) - 1):
            if re.fullmatch(r"-[a-z]*c", self.words[n]):
                return Study({n + 1: reasons.SCRIPT})
        return Study({}, reads=True)


def _both(item: Study, other: Study) -> Study:
    return Study(item.evaluated | other.evaluated, item.reads or other.reads, item.sources or other.sources)


def _text_reads(text: str) -> bool:
    """Return whether a command line reads shell commands from its input: `bash -s`, `sudo sh`."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        return True
    starts = [
        0,
        *(n + 1 for n, word in enumerate(words) if word in ("&&", "||", "|", ";", "{", "(") or word[-1:] == ";"),
    ]
    return any(study(words[start:]).reads for start in starts if start < len(words))
