"""The address of the page of a run, where a server shows its state file."""

from __future__ import annotations

import os
from typing import Final

from liteflow.api import sha256_hex

#: The port on which a server listens if no other is named.
DEFAULT_PORT: Final = 8787
#: The address of the server for people, such as that of a proxy before it.
URL_VARIABLE: Final = "LIGHTFLOW_URL"
_MAX_BYTES: Final = 1000


def token_path(db: str) -> str:
    """Return the path of the file with the tokens of a state file."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    digest = sha256_hex(os.fsencode(os.path.realpath(db)))[:20]
    return os.path.join(base, "lightflow", f"server-{digest}.json")


def address_file(token_file: str) -> str:
    """Return the path of the file with the address of the server that was started last and has not ended."""
    return f"{token_file}.address"


def run_page(db: str, run_id: str) -> str:
    """Return the address of the page of a run; empty where no server works on the state file."""
    from urllib.parse import quote  # only for hooks that name the page

    address = os.environ.get(URL_VARIABLE) or _address(db)
    return f"{address.rstrip('/')}/#/r/{quote(run_id, safe='')}" if address else ""


def _address(db: str) -> str:
    try:
        with open(address_file(token_path(db)), encoding="utf-8") as file:
            address = file.read(_MAX_BYTES).strip()
    except (OSError, UnicodeError):
        return ""
    return address if address.startswith("http") else ""
