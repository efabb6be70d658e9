"""The values that tasks of an agent pull: each question goes to the owner of the run, and the answer to the task."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import Final

from liteflow.errors import ResourceError
from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.processes.forks import close_in_forks, keep_open_in_forks
from liteflow.processes.frames import Channel
from liteflow.remote.accept import accept
from liteflow.remote.ferry import moved_payload
from liteflow.remote.link import Link
from liteflow.values.payload import Payload
from liteflow.values.pull import bound_address

_PARTS: Final = 3  # of a question: task id, key, map index


class Pulls:
    """The socket of an agent to which its tasks connect, and the questions without an answer."""

    def __init__(self, folder: str, values: str, link: Link, outcomes: OutcomeQueue) -> None:
        """Listen in a folder that no other user can enter; `values` is the folder of large values."""
        self._values = values
        self._link = link
        self._outcomes = outcomes
        self._waiting: dict[int, Channel] = {}  # by the number of the question
        self._last_number = 0
        self._socket = socket.socket(socket.AF_UNIX)
        address, descriptor = bound_address(folder)
        try:
            self._socket.bind(address)
        finally:
            os.close(descriptor)
        self._socket.listen()
        self._socket.setblocking(False)
        close_in_forks(self._socket)
        outcomes.watch(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock = accept(self._socket, self._outcomes)
        except ResourceError:  # the task waits
            return
        if sock is None:
            return
        close_in_forks(sock)
        channel = Channel(sock)
        self._outcomes.watch(channel.fileno(), partial(self._read, channel, sock))

    def _read(self, channel: Channel, sock: socket.socket) -> None:
        for question in channel.take():
            if isinstance(question, tuple) and len(question) == _PARTS:
                self._last_number += 1
                self._waiting[self._last_number] = channel
                self._link.send(("pull", self._last_number, *question))
        channel.flush()
        self._outcomes.watch_writing(channel.fileno(), on=channel.backlog)
        if channel.eof:  # the task has its answer, or has ended
            self._waiting = {number: each for number, each in self._waiting.items() if each is not channel}
            self._outcomes.unwatch(channel.fileno())
            keep_open_in_forks(sock)
            channel.close()

    def answer(self, number: int, payload: tuple[object, ...] | None, problem: str | None) -> None:
        """Give a task the answer of the owner: the stored value, or why there is none."""
        channel = self._waiting.pop(number, None)
        if channel is None:
            return
        if payload is not None:
            payload = tuple(moved_payload(Payload._make(payload), self._values))
        channel.send((payload, problem))
        self._outcomes.watch_writing(channel.fileno(), on=channel.backlog)

    def close(self) -> None:
        """Stop listening; the tasks have ended, and the queue of outcomes is closed with the executor."""
        keep_open_in_forks(self._socket)
        self._socket.close()
