"""A stand-in for ssh, for tests without a server: the host is this machine, and the forwarded socket is a real one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

#: Options of ssh that take a word.
_WITH_WORD = ("-o", "-R", "-p", "-i", "-F")


def install(folder: Path, programs: str) -> str:
    """Make a program `ssh` in a folder, and return a PATH that begins with it and with the folder of other programs."""
    folder.mkdir()
    program = folder / "ssh"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {os.path.abspath(__file__)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return os.pathsep.join([str(folder), programs, os.environ["PATH"]])


def main(words: list[str]) -> int:
    """Run the command of an ssh command line here, and forward the socket that it names."""
    forward = ""
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in _WITH_WORD:
            value = words.pop(0)
            forward = value if option == "-R" else forward
    host, *command = words
    if host == "unreachable":
        print(f"ssh: Could not resolve hostname {host}: Name or service not known", file=sys.stderr)
        return 255
    path, address, port = forward.split(":")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    answer = _start_apart(command)
    threading.Thread(target=_forward, args=(listener, (address, int(port))), daemon=True).start()
    with open(answer) as pipe:
        code = pipe.read()
    return int(code or 255)


def _start_apart(command: list[str]) -> int:
    """Start a command that is no descendant of this process, as on another machine. Return a pipe with its exit code.

    The guardian of a run that is killed ends the descendants of its owner, which no process of another machine is.
    """
    answer, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            os.setsid()
            code = subprocess.run(["/bin/sh", "-c", " ".join(command)], check=False).returncode
            os.write(write_end, str(code).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write_end)
    return answer


def _forward(listener: socket.socket, target: tuple[str, int]) -> None:
    while True:
        near, _ = listener.accept()
        far = socket.create_connection(target)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
