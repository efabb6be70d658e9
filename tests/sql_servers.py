"""Real servers of PostgreSQL and MariaDB for tests, each in a folder of its own, on loopback and a socket."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

TOKEN = "tests-only"  # the password of both servers: they listen on loopback alone


class SqlServer(NamedTuple):
    """A server that runs."""

    scheme: str
    port: int
    socket_path: str
    pid: int

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Return the address of the server behind another port, such as that of a proxy."""
        user, database = ("postgres", "postgres") if self.scheme == "postgresql" else ("tester", "test")
        return f"{self.scheme}://{user}:{TOKEN}@127.0.0.1:{port}/{database}"


def missing(what: str) -> None:
    """Skip the test because the machine has no `what`; on CI machines that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed: .ci/run installs it")
    pytest.skip(f"{what} is not installed")


def free_port() -> int:
    """Return a port on which nothing listens.

    It is none of those that the kernel gives to connections and to servers that take any: until a server that needs
    seconds to start listens on it, no other program gets it.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                return port
    raise AssertionError("none of a hundred ports is free")


def _as_user(name: str) -> list[str]:
    """Return the words before a command that run it as a user who is not root, as both servers need."""
    if os.getuid() != 0:
        return []
    return ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups"]


def _folder(user: str) -> str:
    """Return a new folder that only the user of the server can read; its path is short enough for a socket."""
    folder = tempfile.mkdtemp(prefix="lfsql-", dir="/tmp")
    if os.getuid() == 0:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    return folder


def _certificate_in(folder: str, user: str, certificate: Path) -> str:
    """Return the path of a copy of a certificate with its key, which only the user of the server can read."""
    path = f"{folder}/server.pem"
    shutil.copy(certificate, path)
    os.chmod(path, 0o600)
    if os.getuid() == 0:
        os.chown(path, pwd.getpwnam(user).pw_uid, -1)
    return path


def _run(argv: list[str], folder: str) -> None:
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0, done.stdout + done.stderr


def _end(process: subprocess.Popen[bytes], folder: str, number: signal.Signals) -> None:
    process.send_signal(number)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _wait_for(path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server has made its socket: both make it when they are ready to listen."""
    deadline = time.monotonic() + 60
    while not os.path.exists(path):
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.02)


@contextmanager
def postgresql(certificate: Path | None = None) -> Iterator[SqlServer]:
    """Start PostgreSQL; with a certificate it also takes encrypted connections."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    if not binaries and not on_path:
        missing("PostgreSQL (the package postgresql)")
    home = (binaries[-1] if binaries else Path(str(on_path)).resolve()).parent
    folder = _folder("postgres")
    port, data, user = free_port(), f"{folder}/data", _as_user("postgres")
    (Path(folder) / "password").write_text(TOKEN)
    os.chmod(f"{folder}/password", 0o644)
    rules = ["-A", "scram-sha-256", "-U", "postgres", "--pwfile", f"{folder}/password", "--no-sync", "-E", "UTF8"]
    _run([*user, str(home / "initdb"), "-D", data, *rules, "--locale=C"], folder)
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
    if certificate is not None:
        path = _certificate_in(folder, "postgres", certificate)
        options |= {"ssl": "on", "ssl_cert_file": path, "ssl_key_file": path}
    argv = [*user, str(home / "postgres"), "-D", data]
    for name, value in options.items():
        argv += ["-c", f"{name}={value}"]
    log = Path(folder) / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(argv, cwd=folder, stdout=output, stderr=output)
    try:
        _wait_for(f"{folder}/.s.PGSQL.{port}", process, log)
        server = SqlServer("postgresql", port, folder, process.pid)
        _until_connected(server, process, log)
        yield server
    finally:
        _end(process, folder, signal.SIGQUIT)


@contextmanager
def mariadb(certificate: Path | None = None) -> Iterator[SqlServer]:
    """Start MariaDB; with a certificate it also takes encrypted connections."""
    daemon = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    installer = shutil.which("mariadb-install-db")
    if daemon is None or installer is None:
        missing("MariaDB (the package mariadb-server)")
    assert daemon is not None
    assert installer is not None
    folder = _folder("mysql")
    port, data, user = free_port(), f"{folder}/data", _as_user("mysql")
    plain = ["--no-defaults", f"--datadir={data}"]
    _run([*user, installer, *plain, "--skip-test-db", "--auth-root-authentication-method=normal"], folder)
    setup = Path(folder) / "setup.sql"
    setup.write_text(
        f"CREATE DATABASE test;\nCREATE USER tester@'127.0.0.1' IDENTIFIED BY '{TOKEN}';\n"
        "GRANT ALL ON *.* TO tester@'127.0.0.1';\n"
    )
    os.chmod(setup, 0o644)
    path, log = f"{folder}/socket", Path(folder) / "log"
    network = [f"--socket={path}", f"--port={port}", "--bind-address=127.0.0.1", f"--pid-file={folder}/pid"]
    quick = [
        "--skip-name-resolve",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=32M",
        f"--init-file={setup}",
    ]
    if certificate is not None:
        pem = _certificate_in(folder, "mysql", certificate)
        network += [f"--ssl-cert={pem}", f"--ssl-key={pem}"]
    with log.open("wb") as output:
        process = subprocess.Popen([*user, daemon, *plain, *network, *quick], cwd=folder, stdout=output, stderr=output)
    try:
        _wait_for(path, process, log)
        server = SqlServer("mysql", port, path, process.pid)
        _until_connected(server, process, log)
        yield server
    finally:
        _end(process, folder, signal.SIGTERM)


def connected(server: SqlServer):  # type: ignore[no-untyped-def]  # both drivers have the same interface
    """Return a connection of the driver, which commits each statement."""
    if server.scheme == "postgresql":
        import psycopg

        return psycopg.connect(server.url, autocommit=True)
    import pymysql

    address = {"host": "127.0.0.1", "port": server.port, "user": "tester", "password": TOKEN, "database": "test"}
    return pymysql.connect(**address, autocommit=True)


def marked(server: SqlServer) -> list[tuple[object, ...]]:
    """Return the sessions of a server that execute a statement of a task."""
    if server.scheme == "postgresql":
        return query(server, "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'lf-%'")
    return query(server, "SELECT id FROM information_schema.processlist WHERE info LIKE '/* lf-%'")


def _until_connected(server: SqlServer, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server takes connections: it refuses them for a moment after it listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            connected(server).close()
            return
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text(errors="replace")) from error
            time.sleep(0.02)


def query(server: SqlServer, text: str) -> list[tuple[object, ...]]:
    """Return the rows of a query, from a connection of its own."""
    connection = connected(server)
    try:
        cursor = connection.cursor()
        cursor.execute(text)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


if __name__ == "__main__":  # for experiments: start both, print their addresses, end with the input
    with postgresql() as first, mariadb() as second:
        print(first.url, second.url, flush=True)
        sys.stdin.read()
