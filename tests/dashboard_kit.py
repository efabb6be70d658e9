"""A real browser for tests of pages. Whatever goes wrong in a page fails the test that opened it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from server_kit import RunningServer

from bench.pages import export_all

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
#: How long a page may take for what a test awaits: a busy machine is no failure.
PATIENCE_MS = 60_000

AXE = next(
    (
        path
        for path in (Path(os.environ.get("AXE", "")), Path(__file__).parents[1] / ".venv/axe/package/axe.min.js")
        if path.is_file()
    ),
    None,
)


def findings_of_axe(page: Any) -> list[tuple[str, list[str]]]:
    """Return the rules that a page breaks seriously, each with the elements; where there is no axe, skip the test."""
    if AXE is None:
        if os.environ.get("CI") == "true":
            pytest.fail("needs axe-core: npm pack axe-core")
        pytest.skip("needs axe-core (make axe)")
    page.evaluate(AXE.read_text())
    result = page.evaluate(
        "axe.run({resultTypes: ['violations'], rules: {'label-content-name-mismatch': {enabled: true}}})"
    )
    return [
        (each["id"], [node["html"][:100] for node in each["nodes"][:3]])
        for each in result["violations"]
        if each["impact"] in ("serious", "critical")
    ]


@contextlib.contextmanager
def launched() -> Iterator[Any]:
    """A browser; where there is none, the test is skipped, and fails in CI."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        reason = "needs Chromium and playwright (apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS)
        yield started
        started.close()


def watch(page: Any, trouble: list[str], note_request: Callable[[str], None]) -> None:
    """Collect the console messages, errors and dialogs of a page, and report the address of each request.

    Chromium also informs of a field that had the focus before it could give it to that field: no trouble.
    """

    def note_message(message: Any) -> None:
        if message.type != "info" or not message.text.startswith("Autofocus processing was blocked"):
            trouble.append(f"console {message.type}: {message.text}")

    page.on("console", note_message)
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: note_request(request.url))


class Tabs:
    """Opens tabs, and collects console messages, errors, dialogs, and requests to other servers.

    Attributes:
        expected: parts of messages that a test causes on purpose, such as the status of a refused request.
    """

    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self.trouble: list[str] = []
        self.expected: list[str] = []
        self._contexts: list[Any] = []

    def context(self, **options: Any) -> Any:
        """A new profile: its tabs share a token, others do not have it."""
        options = {"viewport": {"width": 1280, "height": 800}, "timezone_id": "Europe/Berlin"} | options
        context = self.browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        export_all(context)
        self._contexts.append(context)
        return context

    def tab(self, context: Any = None, **options: Any) -> Any:
        """A new tab, in a new profile if none is passed."""
        page = (context or self.context(**options)).new_page()
        watch(page, self.trouble, self._note)
        return page

    def _note(self, url: str) -> None:
        if urlsplit(url).hostname != "127.0.0.1" and not url.startswith(("data:image/svg+xml", "blob:")):
            self.trouble.append(f"request: {url[:200]}")

    def close(self) -> None:
        """Close all tabs; fail if anything went wrong in one of them."""
        for context in self._contexts:
            context.close()
        self._contexts = []
        unexpected = [line for line in self.trouble if not any(part in line for part in self.expected)]
        if unexpected:
            pytest.fail("\n".join(unexpected))


def log_in(page: Any, url: str, token: str, fragment: str = "#/") -> Any:
    """Open the dashboard with a token, and wait for its shell."""
    page.goto(f"{url}/{fragment}")
    page.fill("input[name=token]", token)
    page.click("text=Open")
    page.wait_for_selector("nav.rail")
    return page


@contextlib.contextmanager
def logged_in(browser: Any, server: RunningServer, **options: Any) -> Iterator[Any]:
    """Open a page with the token of an operator. At the end, no error of any kind may have been reported."""
    trouble: list[str] = []
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "timezone_id": "UTC", **options})
    context.set_default_timeout(PATIENCE_MS)
    export_all(context)
    page = context.new_page()

    def note_request(url: str) -> None:
        if not url.startswith((server.url, "blob:", "data:")):
            trouble.append(f"foreign request: {url}")

    watch(page, trouble, note_request)
    items = {"lightflow/api/v1/": server.operator, "lightflow/api/v1/role": "operator"}
    script = "".join(f"sessionStorage.setItem({name!r}, {value!r});" for name, value in items.items())
    context.add_init_script(script)
    page.goto(server.url + "/")
    page.wait_for_selector("main")
    yield page
    context.close()
    if trouble:
        pytest.fail("\n".join(trouble))
