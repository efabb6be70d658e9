"""The geometry of graphs: laid out in child processes, two at a time, and cached by the text that was laid out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any, Final

from lightflow.errors import VisualError
from lightflow.server.answers import GeometryAnswer
from lightflow.server.problems import RequestProblem
from lightflow.visuals.geometry import geometry, geometry_dot, places
from liteflow.api import Picture, sha256_hex

GraphKey = tuple[object, ...]

_CACHED: Final = 64
_AT_ONCE: Final = 2
_MOST_WAITING: Final = 8


class Layouts:
    """The layouts that a server has made, the last ones used last."""

    def __init__(self) -> None:
        self._answers: OrderedDict[GraphKey, GeometryAnswer] = OrderedDict()
        self._lock = threading.Lock()
        self._layouts: OrderedDict[str, Future[dict[str, Any]]] = OrderedDict()
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._waiting = 0

    def answer_of(self, key: GraphKey) -> GeometryAnswer | None:
        """Return the geometry that was made with a key; None where there is none."""
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
            return self._answers.get(key)

    def geometry(self, picture: Picture, key: GraphKey | None = None) -> GeometryAnswer:
        """Return the geometry of a picture with its digest; the same graph is laid out once.

        Args:
            picture: what is drawn.
            key: for `answer_of`: the digest of the graph, and all else that decides how it is drawn.

        Raises:
            RequestProblem: Graphviz cannot draw it, or too many other graphs wait.
        """
        dot = geometry_dot(picture)
        digest = sha256_hex(dot.encode())
        with self._lock:
            layout = self._layouts.get(digest)
            is_first = layout is None
            if layout is None:
                if self._waiting >= _MOST_WAITING:
                    raise RequestProblem(503, "TOO_MANY", "other graphs are being drawn; the table has every task")
                self._waiting += 1
                layout = self._layouts[digest] = Future()
            self._layouts.move_to_end(digest)
        if is_first:
            self._lay_out(digest, dot, layout)
        try:
            answer: GeometryAnswer = {"digest": digest, **geometry(picture, layout.result())}
        except VisualError as error:
            raise RequestProblem(422, "NOT_DRAWN", str(error)) from error
        if key is not None:
            with self._lock:
                self._answers[key] = answer
                while len(self._answers) > _CACHED:
                    self._answers.popitem(last=False)
        return answer

    def _lay_out(self, digest: str, dot: str, layout: Future[dict[str, Any]]) -> None:
        """Lay out a graph; a failure is not cached, because Graphviz may be installed meanwhile."""
        try:
            with self._slots:
                layout.set_result(places(dot))
        except BaseException as error:
            with self._lock:
                self._layouts.pop(digest, None)
            layout.set_exception(error)
            if not isinstance(error, VisualError):
                raise
        finally:
            with self._lock:
                self._waiting -= 1
                while len(self._layouts) > _CACHED and next(iter(self._layouts.values())).done():
                    self._layouts.popitem(last=False)
