"""SHA-256 without `hashlib`, whose OpenSSL takes 3 ms to load: definitions are small, and hashed in every run."""

from __future__ import annotations

try:
    from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore]  # Python 3.12 and later
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]
    except ImportError:  # a Python built without it
        from hashlib import sha256


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of some bytes, in hex."""
    digest: str = sha256(data).hexdigest()
    return digest


__all__ = ["sha256", "sha256_hex"]
