"""Clusters: other machines on which the tasks of a run are executed, as data."""

from __future__ import annotations

from typing import Any, Final

from liteflow.record import Record

#: Seconds for which an agent works without an answer of the orchestrator.
DEFAULT_LEASE_S: Final = 15.0
#: Seconds for which a run waits for a machine of a cluster that had one before.
DEFAULT_PATIENCE_S: Final = 600.0


class Certificates(Record):
    """The files (PEM) by which one side of a link proves that it belongs to a cluster, and checks the other."""

    ca_file: str  #: the certificate of the authority that has signed those of both sides
    certificate_file: str
    key_file: str  #: the private key of the certificate


class Cluster(Record):
    """Other machines, and the program that starts agents on them.

    The *placer* is a program: it reads a ticket and how many slots are wanted from its standard input, starts agents,
    and writes the fate of each to its standard output (see `liteflow.remote.placing`). So the engine knows no
    cluster software, and nothing of it is loaded in the orchestrator.
    """

    argv: tuple[str, ...]  #: the command line of the placer
    slots: int  #: how many attempts run there at once, at most
    hosts: tuple[str, ...] = ()  #: the names of its machines; empty: only its placer knows them
    lease_s: float = DEFAULT_LEASE_S  #: an agent that hears nothing for so long ends all that it has started
    patience_s: float = DEFAULT_PATIENCE_S  #: for so long the run waits for a machine, once the cluster had one
    files: tuple[str, ...] = ()  #: files and folders of `folder` that each machine gets, relative to it
    folder: str = ""  #: absolute; on the machines, paths in it lead to their copy of it, if there are `files`
    plain_secrets: bool = False  #: whether secrets may pass over a connection that is not encrypted
    certificates: Certificates | None = None  #: links are TLS with these; None: they are not
    address: str = "127.0.0.1"  #: the address of this machine at which agents reach it; empty: `at_start` knows it
    shipping: Any = None  #: sends functions (see `remote.shipping`, not imported here); None: by their names
    takes_resources: bool = False  #: whether words NAME=COUNT for `argv` say what each slot takes of its machine
    #: its machines as a command line names them, stored with the run; empty: a file or a program declares them
    machines: str = ""
    #: returns the cluster as a run uses it, such as with an address that it looks up; None: as it is
    at_start: Any = None

    def started(self) -> Cluster:
        """Return the cluster as a run uses it. Raises DefinitionError: something that it needs is not there."""
        cluster: Cluster = self if self.at_start is None else self.at_start(self)
        return cluster
