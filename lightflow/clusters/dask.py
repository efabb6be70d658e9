"""The placer of a Dask cluster: each slot is held by a task of Dask, which starts or joins the agent of its worker.

    python -m lightflow.clusters.dask [RESOURCE=COUNT …] tcp://192.0.2.5:8786

Dask never sees a task of the run. Its own habits, such as to run a task again when a worker is lost, only bring another
agent. Each slot also takes the resources of its worker that are named.

It is a program of its own, so that the process of the run has no threads and loads nothing of Dask. See
`liteflow.remote.placing` for the lines that a placer reads and writes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from lightflow.clusters.dask_worker import hold_slot
from liteflow.remote.cluster import Certificates
from liteflow.remote.ticket import ticket_from

_CONNECT_S: Final = 10.0  # how long the scheduler may take to answer
_END_S: Final = 4.0  # how long the agents may take to end


class DaskPlacer:
    """Holds as many slots of a cluster as are wanted."""

    def __init__(self, client: Any, ticket: str, resources: Mapping[str, int]) -> None:
        self._client = client
        self._ticket = ticket
        self._resources = dict(resources) or None
        self._lock = threading.Lock()  # a future ends in a thread of Dask
        self._futures: set[Any] = set()  # of the slots that are held, or wait for a worker
        self._wanted = 0
        self._idle = threading.Condition(self._lock)

    def want(self, count: int) -> None:
        """Have at least so many slots; slots are given back when the run ends."""
        with self._lock:
            self._wanted = count
            self._submit_missing()

    def _submit_missing(self) -> None:
        while len(self._futures) < self._wanted:
            key = f"lightflow-slot-{uuid.uuid4().hex}"
            future = self._client.submit(
                hold_slot, self._ticket, key=key, pure=False, resources=self._resources, retries=0
            )
            self._futures.add(future)
            future.add_done_callback(self._ended)

    def _ended(self, future: Any) -> None:
        """Handle the end of a slot. The future is dropped at once: else Dask repeats it when its worker is lost."""
        result: Mapping[str, Any] = {}
        if future.status == "finished":
            with suppress(Exception):
                result = future.result(timeout=_CONNECT_S)
        elif future.status == "error":
            with suppress(Exception):
                result = {"failure": f"a worker of Dask cannot start an agent: {future.exception(timeout=_CONNECT_S)}"}
        future.release()
        if result.get("is_clean"):
            say({"gone": result["agent"]})
        if result.get("failure"):
            say({"failed": result["failure"], "final": True})
        with self._lock:
            self._futures.discard(future)
            if not result.get("failure"):
                self._submit_missing()
            self._idle.notify_all()

    def close(self) -> None:
        """Wait for the end of the agents, which end with the run, and drop the slots that no worker has taken."""
        with self._lock:
            self._wanted = 0
            waiting = list(self._futures)
        with suppress(Exception):
            self._client.cancel([future for future in waiting if future.status == "pending"], force=False)
        with self._lock:
            self._idle.wait_for(lambda: not self._futures, timeout=_END_S)


def say(message: Mapping[str, Any]) -> None:
    with suppress(OSError):  # the owner is dead
        os.write(1, json.dumps(message).encode() + b"\n")


def _security(certificates: Certificates | None) -> Any:
    """Return what a client of Dask needs for a scheduler that speaks TLS; None: nothing."""
    if certificates is None:
        return None
    from distributed import Security

    return Security(
        tls_ca_file=certificates.ca_file,
        tls_client_cert=certificates.certificate_file,
        tls_client_key=certificates.key_file,
        require_encryption=True,
    )


def main(arguments: Sequence[str]) -> None:
    """Place agents on the workers of a scheduler."""
    *words, address = arguments
    resources = {name: int(count) for name, _, count in (word.rpartition("=") for word in words)}
    ticket = sys.stdin.readline()
    try:
        from distributed import Client

        security = _security(ticket_from(ticket.encode()).certificates)
        client = Client(address, security=security, timeout=_CONNECT_S, set_as_default=False, name="lightflow")
    except ImportError:
        say({"failed": "Dask is not installed here: pip install 'lightflow-workflows[dask]'", "final": True})
        sys.exit(2)
    except OSError as error:
        reason = str(error).splitlines()[0]
        say({"failed": f"the scheduler at {address} does not answer: {reason}", "final": True})
        sys.exit(1)
    placer = DaskPlacer(client, ticket, resources)
    for line in sys.stdin:
        placer.want(int(json.loads(line)["want"]))
    placer.close()
    with suppress(Exception):
        client.close(timeout=1)
    sys.stdout.flush()
    os._exit(0)  # threads of Dask may still wait for a scheduler that is gone


if __name__ == "__main__":
    main(sys.argv[1:])
