"""The script of the pages is the same program as its modules, in fewer bytes."""
# ruff: noqa: E501 - the lines of JavaScript

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lightflow.server import static
from lightflow.server.script import joined_script, packed_script, packed_style

ROOT = Path(__file__).parents[2]
PAGES = Path(static.__file__).parent / "pages"
ACORN = next(
    (
        path
        for path in (Path(os.environ.get("ACORN", "")), ROOT / ".venv/axe/acorn/package/dist/acorn.js")
        if path.is_file()
    ),
    None,
)

#: Prints the tokens of modules, in the order in which they are evaluated, and those of the script.
TOKENS = r"""
const [, , acorn, folder, kit, script] = process.argv, fs = require("fs"), { parse } = require(acorn);
/** Return the places of the words that begin a declaration after another one. */
function continued(node, places = new Set()) {
  if (!node || typeof node !== "object") return places;
  if (Array.isArray(node)) node.forEach((each, at) => {
    if (each?.type === "VariableDeclaration" && node[at - 1]?.type === each.type) places.add(each.start);
  });
  for (const each of Object.values(node)) continued(each, places);
  return places;
}
function tokensOf(text) {
  const tokens = [], words = continued(parse(text, { ecmaVersion: "latest", sourceType: "module", onToken: tokens }).body);
  const isKept = (token, at) => !(token.type.label === ";" && (words.has(tokens[at + 1]?.start) || tokens[at + 1]?.type.label === "}"));
  return tokens.filter(isKept).map(({ type, value, start }) => words.has(start) ? [",", null] :
    [type.label.replace("const", "name"), value === "const" ? "let" : value?.pattern ?? (type.label === "template" ? value.replace(/\s*\n\s*/g, "\n").replace(/(^|>)\n(?=<|$)/g, "$1").replace(/\s+(?=\/>)/g, "").replace(/<\/\w+>/g, "<//>").replace(/([\w-]=)"([\w.-]+)"(?=[\s/>])/g, "$1$2") : value ?? null)]);
}
const seen = new Set(), texts = [];
function visit(name) {
  if (seen.has(name)) return;
  seen.add(name);
  const text = fs.readFileSync(name === "kit.js" ? kit : `${folder}/${name}`, "utf8"), { body } = parse(text, { ecmaVersion: "latest", sourceType: "module" });
  for (const { type, source } of body)
    if (type === "ImportDeclaration" && !source.value.includes("vendor/")) visit(source.value.slice(2));
  const kept = body.filter(node => node.type !== "ImportDeclaration" && !(node.type === "ExportNamedDeclaration" && !node.declaration));
  texts.push(...kept.map(node => node.declaration || node).map(node => text.slice(node.start, node.end)));
}
visit("app.js");
const ours = fs.readFileSync(script, "utf8").split(/^const .*=\$\w+;$/m).at(-1); // what is vendored is before
const all = tokensOf(texts.join("\n")), joined = tokensOf(ours);
const at = all.findIndex((token, place) => String(token) !== String(joined[place]));
console.log(JSON.stringify({ modules: seen.size, tokens: all.length, joined: joined.length, at, expected: all.slice(at - 3, at + 5), found: joined.slice(at - 3, at + 5) }));
"""


def test_the_script_has_the_tokens_of_its_modules(tmp_path: Path) -> None:
    node = shutil.which("node")
    if ACORN is None or node is None:
        if os.environ.get("CI") == "true":
            pytest.fail("needs node, and acorn: make axe")
        pytest.skip("needs node, and acorn (make axe)")
    (tmp_path / "app.mjs").write_bytes(static.static_file("/ui/app.js").content)
    (tmp_path / "kit.mjs").write_text(static.module_text("kit.js"))
    (tmp_path / "tokens.cjs").write_text(TOKENS)
    printed = subprocess.run(
        [node, "tokens.cjs", ACORN, PAGES, "kit.mjs", "app.mjs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(printed.stdout)
    assert result["at"] == -1, result
    assert result["joined"] == result["tokens"] > 10_000
    assert result["modules"] == len(list(PAGES.glob("*.js")))


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("const a = 1; // one\nconst b = a + 2;\n", "let a=1,b=a+2;\n"),
        ("let a = () => { b(); }; const c = `${ d }`;\nlet { e } = c;\n", "let a=()=>{b()},c=`${d}`,{e}=c;\n"),
        ("for (let a = 1; a; ) b(); let c = 1; f();\nlet d = 2;", "for(let a=1;a;)b();let c=1;f();let d=2;\n"),
        ("if (a) { let b = 1; } let c = [2];\nlet d = 3", "if(a){let b=1}let c=[2],d=3\n"),
        ("function a() { let b = 1; } let c = 2;", "function a(){let b=1}let c=2;\n"),
        ("for (const a of b) { c(`;`); }", "for(let a of b){c(`;`)}\n"),
        ("x.const = `${ 'const' };`", "x.const=`${'const'};`\n"),
        (
            'html`<p class="a-b" id="c d"><i e="f" /></p>`; \'g="h" \'',
            'html`<p class=a-b id="c d"><i e=f/><//>`;\'g="h" \'\n',
        ),
        ("let a = b\n/** about c */\nlet c\n", "let a=b\nlet c\n"),
        ("x = \"a  // b\" + '/* c */';", "x=\"a  // b\"+'/* c */';\n"),
        ("return / a  b/g.test(x) / 2", "return/ a  b/g.test(x)/2\n"),
        ("x = /[/]  `/;", "x=/[/]  `/;\n"),
        ("x = (a) / b / c", "x=(a)/b/c\n"),
        ("a + +b - -c", "a+ +b- -c\n"),
        ("`a  // b ${ {c: `d  ${ e }`} }  f`", "`a  // b ${{c:`d  ${e}`}}  f`\n"),
        ("text(`a\n   b`)", "text(`a\n   b`)\n"),
        ("html`<p>\n    ${ a }\n    <b>`", "html`<p>${a}<b>`\n"),
        ("html`<p>a<${ B }>b</${ B }></p>`; text(`</p>`)", "html`<p>a<${B}>b</${B}><//>`;text(`</p>`)\n"),
        (
            "html`<p\n  class=${ a }\n  id=b>c\n  <i>\n d</i>\n  ${ e }`",
            "html`<p\nclass=${a}\nid=b>c\n<i>\nd<//>${e}`\n",
        ),
        ("a()\n  .b(c,\n    d)", "a().b(c,d)\n"),
        ("a =\n  b\n  ? c\n  : d &&\n  e =>\n  f\n  || g", "a=b?c:d&&e=>f||g\n"),
        ("a\n++b\nc -\n-d\n/e/.f", "a\n++b\nc-\n-d\n/e/.f\n"),
    ],
)
def test_only_what_says_nothing_is_left_out(text: str, packed: str) -> None:
    assert packed_script(text) == packed


@pytest.mark.parametrize("text", ["`never", "x = /never\n"])
def test_a_script_that_breaks_off_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not end"):
        packed_script(text)


def test_modules_are_joined_in_the_order_of_their_imports() -> None:
    modules = {
        "app.js": 'import {\n  a,\n} from "./a.js";\nimport { b } from "./b.js";\na(b);\n',
        "a.js": 'import { b } from "./b.js";\nexport const a = () => b;\n',
        "b.js": (
            'import { y } from "./vendor/y.js";\nimport z from "./vendor/z.js";\n'
            "export { z };\nexport function b() { z(y) }\n"
        ),
        "vendor/y.js": "var n=1;export{n as y,u as x};\n",
        "vendor/z.js": 'import{y as n}from"./y.js";export default n',
    }
    expected = (
        "const $y=(()=>{var n=1;return{y:n,x:u}})();\nconst { y }=$y;\n"
        "const $z=(()=>{const{y:n}=$y;return n})();\nconst z=$z;\n"
        "function b(){z(y)}\nlet a=()=>b;a(b);\n"
    )
    assert joined_script(modules.__getitem__, "app.js") == expected


def test_a_stylesheet_loses_comments_and_spaces() -> None:
    text = "/* a\n b */\n.c :hover, p > b {\n  d: calc(1px - 2px);\n  e: f(1, 2)\n}\n@media (g: 1px) { h { i: j } }\n"
    assert packed_style(text) == ".c :hover,p>b{d:calc(1px - 2px);e:f(1,2)}@media (g:1px){h{i:j}}"
