"""The placer of a Dask cluster: each slot is held by a task of Dask, which starts or joins the agent of its worker.

    python -m lightflow.clusters.dask [RESOURCE=COUNT …] tcp://192.0.2.5:8786

Dask never sees a task of the run. Its own habits, such as to run a task again when a worker is lost, only bring another
agent. Each slot also takes the resources of its worker that are named.

It is a program of its own, so that the process of the run has no threads and loads nothing of Dask. See
`liteflow.remote.placing` for the lines that a placer reads and writes.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from lightflow.clusters.dask_report import SlotReport, say
from lightflow.clusters.dask_worker import hold_slot
from liteflow.remote.cluster import Certificates
from liteflow.remote.hold import give_back
from liteflow.remote.ticket import ticket_from

_CONNECT_S: Final = 10.0  # how long the scheduler may take to answer
_LOOK_S: Final = 0.5  # how often the connection to the scheduler is looked at
_MOST_FAILURES: Final = 3  # of a worker, while another one may still get an agent
_LONGEST_DELAY_S: Final = 30.0  # before a slot is requested again that had no agent
_END_S: Final = 4.0  # how long the agents may take to end


class DaskPlacer:
    """Holds as many slots of a cluster as are wanted."""

    def __init__(self, client: Any, ticket: str, resources: Mapping[str, int]) -> None:
        self._client = client
        self._ticket = ticket
        self._resources = dict(resources) or None
        self._report = SlotReport(client, resources)
        self._lock = threading.Condition()  # a future ends in a thread of Dask
        self._wanted = 0
        self._number = 0  # of the last line of the owner about them
        self._futures: dict[str, Any] = {}  # by slot: those that are held, or wait for a worker
        self._held: dict[str, Mapping[str, str]] = {}  # by slot: the agent that has it, and the worker
        self._failures: dict[str, int] = {}  # by worker
        self._returning: set[str] = set()  # slots that workers are to give back
        self._topic = f"lightflow-{uuid.uuid4().hex}"
        client.subscribe_topic(self._topic, self._note_held)

    # -- the owner -----------------------------------------------------------------------------------------

    def want(self, count: int, busy: Mapping[str, int], number: int) -> None:
        """Have so many slots. `busy` has the number of attempts by agent: their slots are not given back."""
        with self._lock:
            self._wanted, self._number = count, number
            self._submit_missing()
            waiting = [slot for slot in self._futures if slot not in self._held][: self._excess]
            self._drop(waiting)
            returned = self._idle_slots(busy)[: self._excess]
            self._returning.update(returned)
            workers = [self._held[slot]["worker"] for slot in returned]
            self._note_change()
        for slot, worker in zip(returned, workers, strict=True):
            self._give_back(slot, worker)

    def lost(self, agent_id: str) -> None:
        """Have other slots instead of those of an agent of which nothing is heard: its worker may be cut off."""
        with self._lock:
            self._drop([slot for slot, held in self._held.items() if held["agent"] == agent_id])
            self._submit_missing()
            self._note_change()

    @property
    def _excess(self) -> int:
        """How many slots there are besides those that are wanted, or are being given back."""
        return max(0, len(self._futures) - len(self._returning) - self._wanted)

    def _idle_slots(self, busy: Mapping[str, int]) -> list[str]:
        """Return the held slots that no attempt needs."""
        needed, idle = dict(busy), []
        for slot, held in self._held.items():
            if slot not in self._futures or slot in self._returning:
                continue
            if needed.get(held["agent"], 0) > 0:
                needed[held["agent"]] -= 1
            else:
                idle.append(slot)
        return idle

    def close(self) -> None:
        """Drop the slots that no worker has taken, and wait for the end of the agents, which end with the run."""
        with self._lock:
            self._wanted = 0
            self._drop([slot for slot in self._futures if slot not in self._held])
            self._lock.wait_for(lambda: not self._futures, timeout=_END_S)

    # -- Dask ----------------------------------------------------------------------------------------------

    def _submit_missing(self) -> None:
        while len(self._futures) < self._wanted:
            slot = f"lightflow-slot-{uuid.uuid4().hex}"
            arguments = (self._ticket, slot, self._topic)
            future = self._client.submit(
                hold_slot, *arguments, key=slot, pure=False, resources=self._resources, retries=0
            )
            self._futures[slot] = future
            future.add_done_callback(self._ended)

    def _drop(self, slots: Iterable[str]) -> None:
        """Have slots no longer, whether a worker has taken them or not."""
        for slot in slots:
            if (future := self._futures.pop(slot, None)) is not None:
                self._report.drop(slot)
                future.release()

    def _note_change(self) -> None:
        held = sum(slot in self._futures for slot in self._held)
        self._report.change(self._number, len(self._futures), held)

    def _note_held(self, event: tuple[float, Mapping[str, str]]) -> None:
        """Note which agent has a slot, as its worker has said."""
        _, message = event
        slot, worker = message["slot"], message["worker"]
        with self._lock:
            is_wanted = slot in self._futures
            if is_wanted:
                self._held[slot] = message
                self._note_change()
        if not is_wanted:  # it was dropped just before
            self._give_back(slot, worker)

    def _give_back(self, slot: str, worker: str) -> None:
        """Have a worker give a slot back: in a thread, because it waits for the worker."""

        def give() -> None:
            with suppress(Exception):  # the worker has ended, and the slot with it
                self._client.run(give_back, slot, workers=[worker], on_error="ignore")

        threading.Thread(target=give, daemon=True).start()

    def _ended(self, future: Any) -> None:
        """Handle the end of a slot. The future is dropped at once: else Dask repeats it when its worker is lost."""
        result: Mapping[str, Any] = {}
        if future.status == "finished":
            with suppress(Exception):
                result = future.result(timeout=_CONNECT_S)
        elif future.status == "error":
            with suppress(Exception):
                result = {"failure": f"a worker of Dask cannot start an agent: {future.exception(timeout=_CONNECT_S)}"}
        if result.get("is_clean"):
            say({"gone": result["agent"]})
        with self._lock:
            was_wanted = future.key in self._futures
            self._drop([future.key])
            self._held.pop(future.key, None)
            self._returning.discard(future.key)
            if result.get("failure"):
                self._note_failure(result["failure"], result.get("host", ""))
            elif was_wanted:
                self._submit_missing()
            self._note_change()
            self._lock.notify_all()

    def _note_failure(self, reason: str, host: str) -> None:
        """Report why a worker has no agent; it is final when no slot is left, or the worker has failed often."""
        failures = self._failures[host] = self._failures.get(host, 0) + 1
        is_final = not self._futures or failures >= _MOST_FAILURES
        say({"failed": reason, "host": host, "final": is_final})
        again = threading.Timer(min(_LONGEST_DELAY_S, 2.0**failures), self._request_again)
        again.daemon = True
        again.start()

    def _request_again(self) -> None:
        """Request the slots that had no agent."""
        with self._lock:
            self._submit_missing()
            self._note_change()


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


def _end_with_client(client: Any, address: str) -> None:
    """End this process when the connection to the scheduler has ended for good: the owner starts another placer."""
    while client.status != "closed":
        time.sleep(_LOOK_S)
    say({"failed": f"the connection to the scheduler at {address} has ended", "final": True})
    os._exit(1)


def main(arguments: Sequence[str]) -> None:
    """Place agents on the workers of a scheduler."""
    *words, address = arguments
    resources = {name: int(count) for name, _, count in (word.rpartition("=") for word in words)}
    ticket = sys.stdin.readline()
    try:
        from distributed import Client

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the owner says what has failed
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
    threading.Thread(target=_end_with_client, args=(client, address), daemon=True).start()
    with suppress(OSError):  # the owner has ended, and had not read all that was said
        for line in sys.stdin:
            message = json.loads(line)
            if "want" in message:
                placer.want(int(message["want"]), message["busy"], message["number"])
            if "lost" in message:
                placer.lost(message["lost"])
    placer.close()
    with suppress(Exception):
        client.close(timeout=1)
    sys.stdout.flush()
    os._exit(0)  # threads of Dask may still wait for a scheduler that is gone


if __name__ == "__main__":
    main(sys.argv[1:])
