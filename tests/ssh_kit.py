"""A real server of ssh for tests: on loopback, with keys of its own, as the user who runs the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sql_servers import free_port, missing

_LIMIT_S = 20.0
#: Inside of a mount namespace: a user `sshd` and a folder, which a server that root starts needs.
_AS_ROOT = """
mount --bind "$1/passwd" /etc/passwd && mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && shift && exec "$@"
"""


class SshServer:
    """A server that runs. The folder `client` on the path has a program `ssh` that knows its port and its keys."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder = folder
        self.pid = pid

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let `ssh` be the client of this server."""
        monkeypatch.setenv("PATH", f"{self.folder}/client:{os.environ['PATH']}")


def _write_keys(folder: Path) -> None:
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    public = (folder / "user.pub").read_text()
    (folder / "authorized").write_text(public)
    os.chmod(folder / "authorized", 0o600)


def _write_client(folder: Path, port: int, real: str) -> None:
    options = (
        f"-p {port} -i {folder}/user -o IdentitiesOnly=yes -o StrictHostKeyChecking=no "
        f"-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o HostName=127.0.0.1 -F /dev/null"
    )
    client = folder / "client"
    client.mkdir()
    (client / "ssh").write_text(f'#!/bin/sh\nexec {real} {options} "$@"\n')
    os.chmod(client / "ssh", 0o700)


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run a server; it skips the test where there is none."""
    real = shutil.which("ssh")
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if real is None or program is None:
        missing("a client or a server of ssh")
    assert real is not None
    assert program is not None
    port = free_port()
    _write_keys(folder)
    _write_client(folder, port, real)
    (folder / "conf").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin yes\nAllowStreamLocalForwarding yes\nMaxStartups 50\n"
    )
    command = [program, "-D", "-e", "-f", str(folder / "conf")]
    if os.getuid() == 0:
        users = Path("/etc/passwd").read_text()
        extra = "" if "\nsshd:" in users else "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
        (folder / "passwd").write_text(users + extra)
        command = ["unshare", "-m", "sh", "-c", _AS_ROOT, "sh", str(folder), *command]
    log = (folder / "server.log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _await(folder, process)
        yield SshServer(folder, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_LIMIT_S)
        log.close()


def _await(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server lets this user in."""
    give_up = time.monotonic() + _LIMIT_S
    command = [str(folder / "client" / "ssh"), "-o", "BatchMode=yes", f"{getpass.getuser()}@server", "true"]
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        log = (folder / "server.log").read_text()
        assert time.monotonic() < give_up, f"{done.stderr}\n{log}"
        assert process.poll() is None, log
        time.sleep(0.05)
