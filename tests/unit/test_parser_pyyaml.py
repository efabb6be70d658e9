"""PyYAML's patterns are compiled late, and PyYAML is none the worse for it."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path

from lightflow.parser.pyyaml import LatePattern

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_reading_a_workflow_compiles_none_of_them() -> None:
    code = """
import re
real, seen = re._compiler.compile, []
def spy(pattern, flags=0):
    seen.append(str(pattern))
    return real(pattern, flags)
re._compiler.compile = spy
before = re.compile
from lightflow.parser.workflow_loader import loads_workflow
loads_workflow("tasks: {a: {run: 'true', timeout: 1.5}}")
import yaml
assert re.compile is before
assert type(yaml.reader.Reader.NON_PRINTABLE).__name__ == "LatePattern", type(yaml.reader.Reader.NON_PRINTABLE)
print(*[one for one in seen if "\\ud7ff" in one or "0b[0-1_]" in one or "<year>" in one])
"""
    assert run(code).split() == []


def test_its_own_loaders_work_as_ever() -> None:
    text = "{a: 2020-01-02, b: 1.5, c: 0b11, d: 'yes', e: on, f: 12:30:45, g: null, h: [1, x], <<: {i: 1}}"
    code = "import yaml, sys\nprint(yaml.load({text!r}, yaml.{loader}))"
    first = "import lightflow.parser.yaml_source\n"
    for loader in ("SafeLoader", "CSafeLoader", "FullLoader"):
        plain = code.format(text=text, loader=loader)
        assert run(first + plain) == run(plain)
    plain = "import yaml\ntry: yaml.safe_load('a: \\x07')\nexcept yaml.YAMLError as error: print(error)"
    assert run(first + plain) == run(plain) != ""


def test_an_imported_pyyaml_and_threads_are_left_alone() -> None:
    code = "{first}\nimport lightflow.parser.yaml_source, yaml\nprint(type(yaml.reader.Reader.NON_PRINTABLE).__name__)"
    assert run(code.format(first="import yaml")) == "Pattern\n"
    waiting = "import threading, time; threading.Thread(target=time.sleep, args=(5,), daemon=True).start()"
    assert run(code.format(first=waiting)) == "Pattern\n"


def test_a_late_pattern_is_a_pattern() -> None:
    late = LatePattern(r"a(b+)", re.IGNORECASE)
    assert late.pattern == r"a(b+)"
    assert late.search("xABB").group(1) == "BB"
    assert copy.copy(late).fullmatch("ab")
