"""Tokens of the server: one for operators, who may start and cancel, and one for viewers.

They are in a file of the user's state folder, because the state file itself is copied and shared. They are never part
of an address: a browser is let in by a code that is valid once and for a minute, and gets the token in exchange.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import threading
import time
from typing import Final, Literal

from liteflow import DefinitionError
from liteflow.api import Record

Role = Literal["viewer", "operator"]
#: Roles from the least to the most powerful.
ROLES: Final[tuple[Role, ...]] = ("viewer", "operator")
_BYTES: Final = 32
_CODE_S: Final = 60.0
_MOST_CODES: Final = 100


class Tokens(Record):
    """The tokens of one state file. A server that is read-only has no operators."""

    operator: str
    viewer: str

    def role(self, token: str, *, read_only: bool = False) -> Role | None:
        """Return the role that a token gives; None if it is none of these tokens. Compares in constant time."""
        sent = token.encode("utf-8", "surrogatepass")
        is_operator = hmac.compare_digest(sent, self.operator.encode())
        is_viewer = hmac.compare_digest(sent, self.viewer.encode())
        if is_operator:
            return "viewer" if read_only else "operator"
        return "viewer" if is_viewer else None


def load_tokens(path: str) -> Tokens:
    """Return the tokens in a file; make both, and the file with mode 0600, where there is none.

    Raises:
        DefinitionError: the file cannot be read or written, others may read it, or it has no tokens.
    """
    with contextlib.suppress(FileExistsError):
        _make(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(handle, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = json.loads(file.read(65536))
    except (OSError, ValueError) as error:
        raise DefinitionError(
            f"{path}: the tokens cannot be read ({error}); delete the file to make new ones"
        ) from None
    if mode & 0o077:
        raise DefinitionError(f"{path}: other users may read the tokens; delete the file to make new ones")
    words = [content.get(role) if isinstance(content, dict) else None for role in ROLES]
    viewer, operator = (word if isinstance(word, str) and len(word) >= _BYTES else "" for word in words)
    if not viewer or not operator:
        raise DefinitionError(f"{path}: holds no tokens; delete the file to make new ones")
    return Tokens(operator=operator, viewer=viewer)


def _make(path: str) -> None:
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
        temporary = f"{path}.{secrets.token_hex(8)}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump({role: secrets.token_urlsafe(_BYTES) for role in ROLES}, file)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # of two servers that start at once, the second reads the file of the first
        finally:
            os.unlink(temporary)
    except FileExistsError:
        raise
    except OSError as error:
        raise DefinitionError(
            f"{path}: the tokens cannot be written ({error.strerror}); name another file with --token-file"
        ) from None


class LoginCodes:
    """Codes that let a browser in, each once and for a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expires: dict[str, tuple[float, Role]] = {}

    def make(self, role: Role) -> str:
        """Return a new code for a role."""
        code = secrets.token_urlsafe(_BYTES)
        with self._lock:
            now = time.monotonic()
            valid = [entry for entry in self._expires.items() if entry[1][0] > now]
            self._expires = dict(valid[-_MOST_CODES:])
            self._expires[code] = (now + _CODE_S, role)
        return code

    def redeem(self, code: str) -> Role | None:
        """Return the role of a code and make it invalid; None if it is unknown, used or too old."""
        with self._lock:
            now = time.monotonic()
            for each in list(self._expires):
                if hmac.compare_digest(each.encode(), code.encode("utf-8", "surrogatepass")):
                    expires_at, role = self._expires.pop(each)
                    return role if now < expires_at else None
        return None
