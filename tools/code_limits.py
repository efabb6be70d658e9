"""Print what is over the limits of the code: large classes, long functions, many parameters, positional records."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("liteflow", "lightflow")
ATTRIBUTES: Final = 12  # of a class that keeps state: what its methods assign to self
FIELDS: Final = 5  # of a record that may be built by position
PARAMETERS: Final = 8  # of a function, self aside
LINES: Final = 60  # of a function, its docstring aside

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Excess(NamedTuple):
    """A class or function that is over a limit."""

    limit: str
    name: str
    size: int


def attributes(node: ast.ClassDef) -> set[str]:
    """Return the names that the methods of a class assign to `self`."""
    names: set[str] = set()
    for method in node.body:
        if isinstance(method, Function) and method.args.args:
            first = method.args.args[0].arg
            for inner in ast.walk(method):
                if (
                    isinstance(inner, ast.Attribute)
                    and isinstance(inner.ctx, ast.Store)
                    and isinstance(inner.value, ast.Name)
                    and inner.value.id == first
                ):
                    names.add(inner.attr)
    return names


def positional_fields(node: ast.ClassDef) -> int:
    """Return how many fields of a record can be given by position: 0 for a class that is not a record."""
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    is_dataclass = any(name.partition("(")[0].rpartition(".")[2] == "dataclass" for name in decorators)
    is_tuple = any(ast.unparse(base).rpartition(".")[2] == "NamedTuple" for base in node.bases)
    is_record = any(keyword.arg == "kw_only" and ast.unparse(keyword.value) == "False" for keyword in node.keywords)
    if not (is_dataclass or is_tuple or is_record) or any("kw_only=True" in name for name in decorators):
        return 0
    return sum(
        isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation) for field in node.body
    )


def length(node: Function) -> int:
    """Return the lines of a function, those of its docstring and decorators aside."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        docstring = node.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def parameters(node: Function) -> int:
    """Return how many parameters a function has, `self` and `cls` aside."""
    names = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in names)


def excesses_of(text: str, path: Path) -> Iterator[Excess]:
    """Yield what the text of a module holds over each limit."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    def visit(node: ast.AST, place: str) -> Iterator[Excess]:
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.ClassDef | Function):
                name = f"{place}.{inner.name}"
                if isinstance(inner, ast.ClassDef):
                    sizes = [
                        ("attributes", len(attributes(inner)), ATTRIBUTES),
                        ("fields", positional_fields(inner), FIELDS),
                    ]
                else:
                    sizes = [("lines", length(inner), LINES), ("parameters", parameters(inner), PARAMETERS)]
                for limit, size, most in sizes:
                    if size > most:
                        yield Excess(limit, name, size)
                yield from visit(inner, name)
            else:
                yield from visit(inner, place)

    yield from visit(ast.parse(text), module)


def everything() -> list[Excess]:
    """Return what both packages hold over the limits."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [excess for path in paths for excess in excesses_of(path.read_text(encoding="utf-8"), path)]


def main() -> int:
    rows = everything()
    for limit in ("attributes", "fields", "lines", "parameters"):
        of_limit = sorted((row for row in rows if row.limit == limit), key=lambda row: -row.size)
        print(f"{limit}: {len(of_limit)}")
        for row in of_limit:
            print(f"  {row.size:4} {row.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
