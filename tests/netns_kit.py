"""Machines for tests whose links can be cut: network namespaces on a bridge. They need root, and are removed again."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sql_servers import missing

_PREFIX = "lfns"
_SPACES = "/run/netns"
#: The address of each bridge, by default that of one of its links: then this machine hears that link though it is cut.
_BRIDGE = "02:00:00:00:00:01"
#: Of a slow link: bytes that pass at once, and how long others wait before they are dropped.
_BURST_BYTES = 16_000
_LATENCY_MS = 200


class Network:
    """A bridge with the address of this machine, and machines behind it that are namespaces."""

    def __init__(self, machines: int) -> None:
        self._name = f"{_PREFIX}{os.getpid()}"
        self._subnet = f"10.{random.randint(64, 127)}.{random.randint(0, 255)}"
        self.address = f"{self._subnet}.1"
        self._machines = machines

    def open(self) -> None:
        """Make everything."""
        bridge = self._bridge
        _ip("link", "add", bridge, "address", _BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{self.address}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number in range(self._machines):
            space, link = self._space(number), self._link(number)
            _ip("netns", "add", space)
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", link, "master", bridge, "arp", "off", "up")
            _ip("-n", space, "addr", "add", f"{self._host(number)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", space, "link", "set", device, "up")

    def place(self, number: int) -> tuple[list[str], str]:
        """Return the words before a command that execute it on a machine, and the address of the machine."""
        return ["nsenter", f"--net={_SPACES}/{self._space(number)}"], self._host(number)

    def places(self) -> dict[str, tuple[list[str], str]]:
        """Return the place of each machine by the names `w1`, `w2` …"""
        return {f"w{number + 1}": self.place(number) for number in range(self._machines)}

    def cut(self, number: int) -> None:
        """Take the link of a machine away: nothing arrives, and nobody is told."""
        _ip("link", "set", self._link(number), "nomaster")

    def join(self, number: int) -> None:
        """Connect a machine again."""
        _ip("link", "set", self._link(number), "master", self._bridge)

    def slow_down(self, number: int, bytes_s: int) -> None:
        """Let the link of a machine pass so many bytes in a second, in each direction."""
        queue = f"tc qdisc replace dev {{}} root tbf rate {bytes_s * 8}bit burst {_BURST_BYTES} latency {_LATENCY_MS}ms"
        for device, words in ((self._link(number), []), ("eth0", self.place(number)[0])):
            _run([*words, *queue.format(device).split()])

    def crash(self, number: int) -> None:
        """Let a machine be gone: without a link, nobody hears of the end of its processes."""
        self.cut(number)
        done = subprocess.run(["ip", "netns", "pids", self._space(number)], capture_output=True, text=True, check=True)
        for pid in map(int, done.stdout.split()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def is_inside(self, pid: int, number: int) -> bool:
        """Return whether a process is on a machine."""
        try:
            return os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(f"{_SPACES}/{self._space(number)}").st_ino
        except OSError:
            return False

    @property
    def _bridge(self) -> str:
        return f"{self._name}b"

    def _space(self, number: int) -> str:
        return f"{self._name}-{number}"

    def _link(self, number: int) -> str:
        return f"{self._name}v{number}"

    def _host(self, number: int) -> str:
        return f"{self._subnet}.{number + 2}"


@contextmanager
def network(machines: int) -> Iterator[Network]:
    """Have machines behind a bridge; it skips the test where this is not allowed."""
    if os.getuid() != 0 or not all(map(shutil.which, ("ip", "nsenter", "tc"))):
        missing("iproute2, or the right to make network namespaces (root),")
    _remove_old()
    made = Network(machines)
    try:
        made.open()
        yield made
    finally:
        _remove(os.getpid())


def _remove_old() -> None:
    """Remove what tests have left that were killed."""
    for name in _names():
        owner = re.match(rf"{_PREFIX}(\d+)", name)
        if owner and not os.path.exists(f"/proc/{owner[1]}"):
            _remove(int(owner[1]))


def _names() -> list[str]:
    spaces = os.listdir(_SPACES) if os.path.isdir(_SPACES) else []
    return [name for name in (*spaces, *os.listdir("/sys/class/net")) if name.startswith(_PREFIX)]


def _remove(owner: int) -> None:
    own = f"{_PREFIX}{owner}"
    for name in _names():
        if name.startswith(f"{own}-"):
            _ip("netns", "del", name, check=False)
        elif name == f"{own}b" or name.startswith(f"{own}v"):
            _ip("link", "del", name, check=False)


def _ip(*words: str, check: bool = True) -> None:
    _run(["ip", *words], check=check)


def _run(words: list[str], *, check: bool = True) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
