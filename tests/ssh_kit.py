"""Real servers of ssh for tests: on loopback or in network namespaces, with keys of their own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from netns_kit import Network
from sql_servers import free_port, missing

from liteflow.processes import tree

_LIMIT_S = 120.0
#: Inside of a mount namespace: a user `sshd` and a folder, which a server that root starts needs.
_AS_ROOT = """
mount --bind "$1/passwd" /etc/passwd && mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && shift && exec "$@"
"""


class SshServer:
    """Servers that run. The folder `client` on the path has a program `ssh` that knows their addresses and keys."""

    def __init__(self, folder: Path, pids: Sequence[int]) -> None:
        self.folder = folder
        self.pids = pids  # one for each machine

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let `ssh` be the client of these servers."""
        monkeypatch.setenv("PATH", f"{self.folder}/client:{os.environ['PATH']}")


def _write_keys(folder: Path) -> None:
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    public = (folder / "user.pub").read_text()
    (folder / "authorized").write_text(public)
    os.chmod(folder / "authorized", 0o600)


def _write_client(folder: Path, port: int, real: str, addresses: Mapping[str, str]) -> None:
    config = "".join(f"Host {host}\n  HostName {address}\n" for host, address in addresses.items())
    (folder / "client.conf").write_text(config)
    options = (
        f"-p {port} -i {folder}/user -o IdentitiesOnly=yes -o StrictHostKeyChecking=no "
        f"-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -F {folder}/client.conf"
    )
    client = folder / "client"
    client.mkdir()
    (client / "ssh").write_text(f'#!/bin/sh\nexec {real} {options} "$@"\n')
    os.chmod(client / "ssh", 0o700)


@contextmanager
def ssh_server(folder: Path, network: Network | None = None) -> Iterator[SshServer]:
    """Run servers; it skips the test where there is none.

    Args:
        folder: for their files and logs.
        network: the machines of the servers, each the host `w1`, `w2` …; None: one server, which is every host.
    """
    real = shutil.which("ssh")
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if real is None or program is None:
        missing("a client or a server of ssh")
    assert real is not None
    assert program is not None
    port = free_port()
    _write_keys(folder)
    places = {"*": ([], "127.0.0.1")} if network is None else network.places()
    _write_client(folder, port, real, {host: address for host, (_, address) in places.items()})
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for host, (prefix, address) in places.items():
            name = "server" if network is None else host
            processes.append(_start(folder, name, [*prefix, *_command(folder, name, program, f"{address}:{port}")]))
            _await(folder, name, processes[-1])
        yield SshServer(folder, [process.pid for process in processes])
    finally:
        for process in processes:
            _end(process)


def _command(folder: Path, name: str, program: str, address: str) -> list[str]:
    """Return the command line of a server."""
    (folder / f"{name}.conf").write_text(
        f"ListenAddress {address}\nHostKey {folder}/host\nPidFile {folder}/{name}.pid\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin yes\nAllowStreamLocalForwarding yes\nMaxStartups 50\n"
    )
    command = [program, "-D", "-e", "-f", f"{folder}/{name}.conf"]
    if os.getuid() != 0:
        return command
    users = Path("/etc/passwd").read_text()
    extra = "" if "\nsshd:" in users else "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
    (folder / "passwd").write_text(users + extra)
    return ["unshare", "-m", "sh", "-c", _AS_ROOT, "sh", str(folder), *command]


def _start(folder: Path, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def _await(folder: Path, host: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server lets this user in."""
    give_up = time.monotonic() + _LIMIT_S
    command = [str(folder / "client" / "ssh"), "-o", "BatchMode=yes", f"{getpass.getuser()}@{host}", "true"]
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        log = (folder / f"{host}.log").read_text()
        assert time.monotonic() < give_up, f"{done.stderr}\n{log}"
        assert process.poll() is None, log
        time.sleep(0.05)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server and its sessions: one whose link was cut does not hear of the end of its client."""
    below, pids = [server.pid], list[int]()
    rows = tree.processes().values()
    while below:
        parent = below.pop()
        children = [row.pid for row in rows if row.parent == parent]
        pids += children
        below += children
    server.send_signal(signal.SIGTERM)
    server.wait(_LIMIT_S)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
