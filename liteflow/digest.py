"""SHA-256. `hashlib` loads OpenSSL, which takes 3 ms: it is imported with the first digest."""

from __future__ import annotations

from typing import Any


def sha256(data: bytes = b"") -> Any:
    """Return a hash object of `hashlib` that has the data."""
    import hashlib

    return hashlib.sha256(data)


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal digits."""
    digest: str = sha256(data).hexdigest()
    return digest
