"""TLS for links: with the certificates of the cluster, both sides prove who they are before anything else is read."""

from __future__ import annotations

import socket
from typing import Any

from liteflow.errors import LiteflowError
from liteflow.remote.cluster import Certificates


def context(certificates: Certificates, *, is_owner: bool) -> Any:
    """Return the `ssl.SSLContext` of the owner of a run, or of an agent.

    The authority of the cluster vouches for both sides. Names are not compared: machines of a cluster share
    certificates, and the handshake of the link proves the run.

    Raises:
        LiteflowError: a file is not there, or is not a certificate.
    """
    import ssl  # OpenSSL takes 3 ms, and few runs need it

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_owner else ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_REQUIRED
    path = certificates.ca_file
    try:
        tls.load_verify_locations(path)
        path = certificates.certificate_file
        tls.load_cert_chain(path, certificates.key_file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise LiteflowError(f"the certificate {path} of the cluster cannot be used: {reason}") from None
    return tls


def blocked_errors(sock: socket.socket) -> tuple[type[OSError], ...]:
    """Return the errors by which a socket says that it would have to wait."""
    if not is_tls(sock):
        return (BlockingIOError,)
    import ssl

    return (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def is_tls(sock: socket.socket) -> bool:
    return hasattr(sock, "pending")  # an `ssl.SSLSocket`
