"""SHA-256 of small data, without `hashlib`, which loads OpenSSL and eleven more modules.

Loading them takes 3 ms, and where one of their files cannot be opened `hashlib` prints a traceback for each algorithm.
`random` of the standard library avoids `hashlib` in the same way.
"""

from __future__ import annotations

from typing import Any


def sha256(data: bytes = b"") -> Any:
    """Return a hash object that has the data."""
    try:
        from _sha2 import sha256 as create  # type: ignore[import-not-found] # of Python 3.12, without stubs
    except ImportError:
        try:
            from _sha256 import sha256 as create  # type: ignore[import-not-found] # of Python 3.11, without stubs
        except ImportError:
            from hashlib import sha256 as create
    return create(data)


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal digits."""
    digest: str = sha256(data).hexdigest()
    return digest
