"""Workflow files that somebody got wrong, or meant to: valid ones with a few mutations, by rule and by byte."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Final

YAML: Final = (Path(__file__).parents[1] / "data" / "good.yaml").read_text(encoding="utf-8")
TREE: Final[dict[str, Any]] = {
    "workflow_name": "good",
    "env": {"STAGE": "production"},
    "tasks": {
        "a": {"run": 'echo "x" \\ \u00e9 \U0001f600', "env": {"N": 1.5}, "timeout": 30},
        "b": {"type": "python", "run": "print(1)\n", "depends_on": ["a"], "timeout": 1e2, "retries": 2},
        "c": {"run": "true", "depends_on": ["a", "b"], "trigger_rule": "all_done", "cwd": "."},
    },
    "settings": {"retries": 1, "fail_fast": True, "max_parallel_tasks": 2, "log_dir": "logs"},
}

KEYS: Final = ("tasks", "run", "type", "depends_on", "needs", "env", "timeout", "retries", "retry", "settings", "cwd",
               "workflow_name", "name", "call", "args", "x-note", "<<", "id", "plugins", "description", "trigger_rule",
               "../x", "", "a b", "é", "\0", "\x1b[2J", "__class__", "x" * 300, "NO", "null", "1", "~")  # fmt: skip


def _cycle() -> dict[str, Any]:
    return {f"n{number}": {"run": "x", "depends_on": [f"n{(number + 1) % 50}"]} for number in range(50)}


def value(chance: random.Random) -> Any:
    """A value that does not belong."""
    pick = chance.randrange(30)
    if pick < 10:
        return chance.choice((None, True, False, 0, -1, 1.5, "", "x", [], {}))
    if pick < 16:
        return chance.choice((10**400, -(10**30), 1e308, 0x7FFF_FFFF_FFFF_FFFF, 1e-320, 2**64))
    if pick < 22:
        return chance.choice(
            ("1:30", "yes", "012", "1h1h", "9" * 400 + "d", "é" * 200, "\ud800", "${{ x }}", "$(touch canary)", "../..",
             "a\nb", "\0", "!!python/object/apply:os.system [id]", "*x", "&x", "{{", "%", "@", "`", "shell", "python",
             "\u202e", "\u2028", "\x1b]52;c;x\x07", "-", "?", ":", "x" * 5000)
        )  # fmt: skip
    if pick < 26:
        deep: Any = "x"
        for _ in range(chance.choice((5, 33, 200))):
            deep = [deep] if chance.random() < 0.5 else {"k": deep}
        return deep
    return chance.choice(
        ([1, "a", None], {"a": 1}, ["a"] * 500, {str(number): number for number in range(300)}, _cycle())
    )


def mutated_tree(chance: random.Random) -> Any:
    """A valid tree with one to five things changed, at any depth."""
    tree: Any = json.loads(json.dumps(TREE))
    for _ in range(chance.randint(1, 5)):
        node: Any = tree
        while isinstance(node, dict | list) and node and chance.random() < 0.7:
            below = list(node) if isinstance(node, dict) else range(len(node))
            step = chance.choice(list(below))
            if not isinstance(node[step], dict | list) or not node[step]:
                break
            node = node[step]
        if isinstance(node, dict):
            kind = chance.randrange(4)
            if kind == 0 and node:
                del node[chance.choice(list(node))]
            elif kind == 1 and node:
                name = chance.choice(list(node))
                node[chance.choice(KEYS)] = node.pop(name)
            elif kind == 2 and node:
                node[chance.choice(list(node))] = value(chance)
            else:
                node[chance.choice(KEYS)] = value(chance)
        elif isinstance(node, list):
            node.insert(chance.randrange(len(node) + 1), value(chance))
    return tree


def as_yaml(node: Any, chance: random.Random, indent: int = 0, depth: int = 0) -> str:
    """A tree in block style here and flow style there, sometimes with a tag, an anchor, or the wrong indent."""
    if depth > 6 or chance.random() < 0.15 or not isinstance(node, dict | list) or not node:
        text = json.dumps(node, ensure_ascii=chance.random() < 0.5)
        odd = chance.random()
        if odd < 0.02:
            text = f"&n{chance.randrange(3)} {text}"
        elif odd < 0.04:
            text = f"*n{chance.randrange(3)}"
        elif odd < 0.06:
            text = chance.choice(("!!str ", "!!set ", "!!binary ", "!x ", "!!python/name:os.system ", "!!int ")) + text
        elif odd < 0.07:
            text = chance.choice((".nan", ".inf", "0x" + "f" * 500, "0o17", "1_000", "2001-01-01", "=", "NO", "~"))
        return text
    pad = " " * (indent + (1 if chance.random() < 0.01 else 0))
    if isinstance(node, dict):
        lines = [f"{pad}{_key(str(key))}: {_below(item, chance, indent, depth)}" for key, item in node.items()]
    else:
        lines = [f"{pad}- {_below(item, chance, indent, depth)}" for item in node]
    return "\n".join(lines)


def _key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else json.dumps(key)


def _below(item: Any, chance: random.Random, indent: int, depth: int) -> str:
    text = as_yaml(item, chance, indent + 2, depth + 1)
    return f"\n{text}" if text.startswith(" ") else text


_PIECES: Final = ("\t", "\n", "  ", ":", ": ", "- ", "[", "]", "{", "}", "&a ", "*a", "*defaults", "<<: ", "!!str ",
                  "!x ", "|", ">", '"', "'", "\\", "\\ud800", "#", "%", "@", "---\n", "...", "null", "1e999", ".nan",
                  "0x" + "f" * 200, "\0", "é", ",", "x-", "tasks", "run", "retry", "-1", "true", "~", "? ", "\r",
                  "\u2028", "\ufeff", "\x85", "\U000e0001", "${{ x }}", "%YAML 9.9\n", "%TAG ! x\n")  # fmt: skip


def mutated_text(text: str, chance: random.Random) -> str:
    for _ in range(chance.randint(1, 5)):
        at, to = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        kind = chance.random()
        if kind < 0.5:
            text = text[:at] + chance.choice(_PIECES) * chance.choice((1, 1, 1, 2, 40)) + text[at:]
        elif kind < 0.7:
            text = text[:at] + text[min(to, at + 8) :]
        elif kind < 0.9:
            text = text[:to] + text[at : min(to, at + 40)] + text[to:]
        else:
            lines = text.splitlines(True)
            chance.shuffle(lines)
            text = "".join(lines)
    return text


def mutated_bytes(data: bytes, chance: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(result))
        kind = chance.randrange(3)
        if kind == 0:
            result[at] = chance.randrange(256)
        elif kind == 1:
            result[at:at] = chance.randbytes(chance.choice((1, 2, 4)))
        else:
            del result[at : at + chance.choice((1, 3, 30))]
    return bytes(result) or b"x"


def bomb(chance: random.Random) -> str:
    """Small to write, and enormous to somebody who believes it."""
    size = chance.choice((40, 1_000, 20_000))
    kind = chance.randrange(10)
    if kind < 3:
        return chance.choice(("[", "{a: ", "- ", "? ", "{? ", "&a [", "!!seq [", '{"a":[')) * size
    if kind == 3:
        rows = ["x-a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
        rows += [f"x-a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, chance.randint(3, 30))]
        return "\n".join(rows)
    if kind == 4:
        rows = ["x-a0: &a0 {k: 1}"]
        rows += [f"x-a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 20)}], k{n}: 1}}" for n in range(1, 25)]
        return "\n".join(rows)
    if kind == 5:
        return "x-a: &a 1\nx-b: [" + "*a, " * size + "]\n"
    if kind == 6:
        return "tasks:\n" + "".join(f"  t{n}: {{run: x, needs: t{n - 1}}}\n" for n in range(size // 40))
    if kind == 7:
        return chance.choice(("a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}", "? &a [*a]\n: 1"))
    if kind == 8:
        return "tasks: {a: {run: '" + "x" * size * 4 + "', timeout: " + "9" * size + "}}"
    return "tasks:\n" + " ".join(f"'{n}':" for n in range(size // 40)) + "\n" + "k: v\n" * (size // 40)


def file(number: int, chance: random.Random) -> tuple[str, bytes]:
    """The `number`th hostile file: its name and its bytes."""
    kind = number % 10
    if kind < 3:
        return "w.yaml", mutated_text(YAML, chance).encode("utf-8", "surrogatepass")
    if kind < 6:
        return "w.yaml", as_yaml(mutated_tree(chance), chance).encode("utf-8", "surrogatepass")
    if kind == 6:
        return "w.json", json.dumps(mutated_tree(chance)).encode()
    if kind == 7:
        return "w.json", mutated_text(json.dumps(TREE, indent=1, ensure_ascii=False), chance).encode("utf-8", "ignore")
    if kind == 8:
        return "w.yaml", mutated_bytes(YAML.encode(), chance)
    if number % 100 == 9:
        return "w.yaml", bomb(chance).encode()
    return "w.json", mutated_bytes(json.dumps(TREE).encode(), chance)
