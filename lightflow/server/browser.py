"""Let a browser of this user in: a link with a code that is valid once, which no list of processes shows."""

from __future__ import annotations

import contextlib
import html
import logging
import os
import webbrowser
from typing import Final

from lightflow.page_address import URL_VARIABLE, address_file, token_path
from liteflow import DefinitionError

_SCHEME: Final = "http://"
_log = logging.getLogger("lightflow.server")


def write_address(db: str, token_file: str, address: str) -> None:
    """Store the address of a server where its tokens are, for `lightflow open`, and where its runs look for it.

    Raises:
        DefinitionError: the file at the tokens cannot be written.
    """
    at_tokens = address_file(os.path.abspath(token_file))
    _write(at_tokens, address)
    for path in _address_files(db, token_file):
        if path != at_tokens:
            try:
                _write(path, address)
            except DefinitionError as error:  # a server may have no state folder that it can write
                _log.warning("hooks of runs do not know the address of this server, unless %s has it: %s",
                             URL_VARIABLE, error)  # fmt: skip


def forget_address(db: str, token_file: str, address: str) -> None:
    """Remove the address of a server that ends, unless another server has stored its own."""
    for path in _address_files(db, token_file):
        with contextlib.suppress(OSError, UnicodeError):
            with open(path, encoding="utf-8") as file:
                is_own = file.read() == address
            if is_own:
                os.unlink(path)


def _address_files(db: str, token_file: str) -> list[str]:
    return sorted({address_file(os.path.abspath(path)) for path in (token_file, token_path(db))})


def read_address(token_file: str) -> str:
    """Return the address of the server that was started last.

    Raises:
        DefinitionError: none works, or it is not one that a browser can reach.
    """
    try:
        with open(address_file(token_file), encoding="utf-8") as file:
            address = file.read(1000).strip()
    except (OSError, UnicodeError):
        raise DefinitionError("no server works on this state file; start `lightflow serve` or `lightflow ui`") from None
    if not address.startswith(_SCHEME):
        raise DefinitionError(f"the server listens on {address}, which a browser cannot reach")
    return address


def link(address: str, code: str) -> str:
    """Return the link that logs a browser in; what follows `#` is sent to no server."""
    return f"{address}#code={code}"


def open_browser(token_file: str, address: str, code: str) -> bool:
    """Open a link in the browser of the user. Returns False where there is none.

    The browser gets the path of a file that only the user may read, so that the code is in no command line.
    """
    path = f"{token_file}.html"
    target = html.escape(link(address, code), quote=True)
    _write(path, f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={target}">')
    return webbrowser.open(f"file://{path}")


def _write(path: str, text: str) -> None:
    """Write a file that only the user may read, in place of an older one.

    Raises:
        DefinitionError: it cannot be written.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise DefinitionError(f"{path}: {error.strerror or error}") from None
