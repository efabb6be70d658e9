"""Certificates of a cluster for tests."""

from __future__ import annotations

from pathlib import Path

import trustme

from liteflow.remote.cluster import Certificates


def certificates(folder: Path, authority: trustme.CA) -> Certificates:
    """Return the files of one machine."""
    issued = authority.issue_cert("cluster.example")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    names = ("ca.pem", "cert.pem", "key.pem")
    ca_file, certificate_file, key_file = (str(folder / name) for name in names)
    return Certificates(ca_file=ca_file, certificate_file=certificate_file, key_file=key_file)
