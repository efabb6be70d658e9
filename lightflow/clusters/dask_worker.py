"""The functions that the workers of a Dask cluster import: one holds a slot for a run, in the name of its worker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from liteflow import DefinitionError
from liteflow.remote.cluster import Certificates
from liteflow.remote.hold import hold


def hold_slot(ticket: str, slot: str, topic: str) -> dict[str, Any]:
    """Hold a slot of this worker for the run of a ticket (see `liteflow.remote.hold.hold`).

    The placer hears under the topic which agent has the slot.
    """
    from distributed import get_worker

    worker = get_worker()
    is_named = isinstance(worker.name, str) and "://" not in worker.name
    name = worker.name if is_named else worker.address.rpartition("://")[2]

    def say(agent_id: str) -> None:
        worker.log_event(topic, {"slot": slot, "agent": agent_id, "worker": worker.address})

    return hold(ticket, slot, name, say, certificates_of(worker.security, "worker"))


def certificates_of(security: Any, role: str) -> Certificates | None:
    """Return the certificates in a `distributed.Security`, of a worker or a client; None: it has none in files."""
    parts = security.get_tls_config_for_role(role)
    paths = [parts.get("ca_file"), parts.get("cert"), parts.get("key") or parts.get("cert")]
    if not all(isinstance(path, str) and os.path.isfile(path) for path in paths):
        return None
    ca_file, certificate_file, key_file = map(os.path.abspath, paths)
    return Certificates(ca_file=ca_file, certificate_file=certificate_file, key_file=key_file)


def client_certificates() -> Certificates:
    """Return the certificates in the configuration of Dask. Raises DefinitionError: there are none."""
    try:
        from distributed import Security
    except ImportError:
        raise DefinitionError("Dask is not installed here: pip install 'lightflow-workflows[dask]'") from None
    certificates = certificates_of(Security(), "client")
    if certificates is None:
        raise DefinitionError(
            "a scheduler at tls://… needs certificates: name the files in the configuration of Dask, such as by "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__TLS__CLIENT__CERT and …__TLS__CLIENT__KEY"
        )
    return certificates


def declared_certificates(folder: str, tls: Mapping[str, str]) -> Certificates:
    """Return the certificates whose paths start from a folder. Raises DefinitionError: the mapping has other keys."""
    if not {"ca_file", "cert"} <= tls.keys() <= {"ca_file", "cert", "key"}:
        raise DefinitionError(f"tls={dict(tls)!r} must have the paths `ca_file` and `cert`, and may have `key`")
    paths = {name: os.path.abspath(os.path.join(folder, os.path.expanduser(path))) for name, path in tls.items()}
    cert = paths["cert"]
    return Certificates(ca_file=paths["ca_file"], certificate_file=cert, key_file=paths.get("key", cert))
