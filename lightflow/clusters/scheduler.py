"""The scheduler of a Dask cluster: its address, or the file in which it writes its address."""

from __future__ import annotations

import json
import os
import re
import socket

from lightflow.clusters.dask_worker import client_certificates
from lightflow.spec.cluster_limits import SCHEDULER_PATTERN
from liteflow import DefinitionError
from liteflow.api import Cluster, Record, replace


class DaskScheduler(Record):
    """A scheduler, which is looked up when a run starts: until then its file, or its name, need not be known.

    A call completes a cluster with the address of the scheduler, and with that of this machine on the way to it.
    """

    written: str  #: an address such as "tcp://192.0.2.5:8786", or the path of a scheduler file

    def __call__(self, cluster: Cluster) -> Cluster:
        """Return the cluster for a run. Raises DefinitionError: the file cannot be read, or the machine is unknown."""
        address = self.address()
        match = re.fullmatch(SCHEDULER_PATTERN, address)
        assert match is not None
        address_here = cluster.address or _own_address(match[1].strip("[]"), int(match[2]))
        speaks_tls = address.startswith("tls://")
        if cluster.certificates is not None and not speaks_tls:
            raise DefinitionError(f"the cluster has `tls`, and its scheduler is at {address}, which does not speak TLS")
        certificates = cluster.certificates or (client_certificates() if speaks_tls else None)
        return replace(
            cluster,
            argv=(*cluster.argv, address),
            address=address_here,
            certificates=certificates,
            at_start=None,
        )

    def address(self) -> str:
        """Return the address of the scheduler. Raises DefinitionError: the file cannot be read, or has none."""
        if "://" in self.written:
            return self.written
        try:
            with open(self.written, encoding="utf-8") as file:
                address = json.load(file)["address"]
        except OSError as error:
            raise DefinitionError(
                f"the scheduler file {self.written} cannot be read ({error.strerror}): `dask scheduler "
                "--scheduler-file FILE` writes one"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise DefinitionError(f"{self.written} is not a scheduler file: it has no JSON with an `address`") from None
        return checked_address(address)


def checked_address(address: object) -> str:
    """Return the address of a scheduler. Raises DefinitionError: it is none."""
    if isinstance(address, str) and re.fullmatch(SCHEDULER_PATTERN, address):
        return address
    raise DefinitionError(f"the scheduler {address!r} must be an address such as tcp://192.0.2.5:8786")


def _own_address(host: str, port: int) -> str:
    """Return the address of this machine on the way to another one; nothing is sent."""
    try:
        family, kind, *_, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise DefinitionError(f"the machine {host!r} of the scheduler cannot be found: {error.strerror}") from None


def scheduler_of(text: str, folder: str = "") -> DaskScheduler:
    """Return a scheduler by its address, or by its file, whose path starts from a folder.

    Raises:
        DefinitionError: it is neither.
    """
    if "://" in text:
        return DaskScheduler(written=checked_address(text))
    if not text or re.fullmatch(r"[^/]*:[0-9]*", text):  # an address without its beginning
        checked_address(text)
    return DaskScheduler(written=os.path.abspath(os.path.join(folder, os.path.expanduser(text))))
