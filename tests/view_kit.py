"""Chromium for tests of the dashboard: pages that are logged in, and in which nothing may go wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from server_kit import RunningServer

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start the browser; skip the test where there is none, unless it is required."""
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
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS)
        yield browser
        browser.close()


@contextlib.contextmanager
def logged_in(browser: Any, server: RunningServer, **options: Any) -> Iterator[Any]:
    """Open a page with the token of an operator. At the end, no error of any kind may have been reported."""
    trouble: list[str] = []
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.on("console", lambda message: trouble.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: None if request.url.startswith((server.url, "blob:", "data:")) else
            trouble.append(f"foreign request: {request.url}"))  # fmt: skip
    items = {"lightflow/api/v1/": server.operator, "lightflow/api/v1/role": "operator"}
    script = "".join(f"sessionStorage.setItem({name!r}, {value!r});" for name, value in items.items())
    context.add_init_script(script)
    page.goto(server.url + "/")
    page.wait_for_selector("main")
    yield page
    context.close()
    assert trouble == []
