"""Who a process is, for ever: its pid together with when it was started, and in which boot of the machine."""

from __future__ import annotations


def start_ticks(pid: int | str = "self") -> int | None:
    """When a process was started, in kernel ticks since boot (names it for ever); None when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return None if fields[0] in b"ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def boot_id() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return None
