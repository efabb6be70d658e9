"""Runs the application in uvicorn: the address, the signals, the log, the browser."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

import uvicorn

from lightflow.page_address import token_path
from lightflow.server.api import OPEN_ROUTES
from lightflow.server.app import Application
from lightflow.server.browser import forget_address, open_browser, write_address
from lightflow.server.feed import Feed
from lightflow.server.frames import FrameBuilder
from lightflow.server.gate import Gate, hosts_of, is_loopback
from lightflow.server.layouts import Layouts
from lightflow.server.metrics import Metrics
from lightflow.server.options import WebOptions
from lightflow.server.protocol import MOST_HEADER_BYTES, StrictProtocol
from lightflow.server.services import Services
from lightflow.server.static import STATIC_PATHS
from lightflow.server.tokens import LoginCodes, load_tokens
from lightflow.server.webhooks import PREFIX, Webhooks
from liteflow import DefinitionError

_GRACE_S: Final = 3  # for answers that are being sent when the server stops
_TICK_S: Final = 1.0
#: An answer with 10,000 rows makes 30,000 objects, none of which the collector of cycles could free.
_OBJECTS: Final = 50_000
_BACKLOG: Final = 256


class WebServer:
    """The web part of `lightflow serve`, and all of `lightflow ui`."""

    def __init__(self, options: WebOptions) -> None:
        """Open the address, so that a port in use is reported before anything starts.

        Raises:
            DefinitionError: the address cannot be used, or the tokens cannot be read.
        """
        self.options = options
        if not is_loopback(options.host) and not options.allowed_hosts:
            raise DefinitionError(
                f"--host {options.host} lets other machines reach the server: also name it as they call it, with "
                "--allow-host NAME"
            )
        self.token_file = os.path.abspath(options.token_file or token_path(options.db))
        tokens = load_tokens(self.token_file)
        self._socket = _open(options)
        port = options.port if options.socket_path is not None else int(self._socket.getsockname()[1])
        self.address = _address(options, port)
        self.services = Services(
            db=options.db,
            feed=Feed(options.db),
            frames=FrameBuilder(options.db, hides_values=options.hides_values),
            metrics=Metrics(),
            tokens=tokens,
            codes=LoginCodes(),
            layouts=Layouts(),
            control=None if options.is_read_only else options.control,
            is_read_only=options.is_read_only,
            hides_values=options.hides_values,
            started_at=time.monotonic(),
        )
        gate = Gate(
            tokens=tokens,
            hosts=hosts_of(options.host, port, options.allowed_hosts),
            is_read_only=options.is_read_only,
            open_routes=OPEN_ROUTES | {("GET", path) for path in STATIC_PATHS},
            open_prefixes=(("POST", PREFIX),),
        )
        control = self.services.control
        webhooks = None if control is None else Webhooks(options.db, control, hides_values=options.hides_values)
        app = Application(self.services, gate, options.base_path, webhooks)
        self._server = _Server(self._config(app), self.services.feed, self._ready)

    def _config(self, app: Application) -> uvicorn.Config:
        return uvicorn.Config(
            app,
            http=StrictProtocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES * 2,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=_GRACE_S,
            backlog=_BACKLOG,
        )

    def run(self) -> None:
        """Answer requests until `stop`, or a signal."""
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        gc.freeze()  # what was imported stays
        gc.set_threshold(_OBJECTS)
        self.services.feed.start()
        self._server.takes_signals = self.options.stop_on_signals
        try:
            self._server.run(sockets=[self._socket])
        finally:
            forget_address(self.options.db, self.token_file, self.address)
            self.services.feed.stop()
            self._socket.close()
            if self.options.socket_path is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.options.socket_path)

    def stop(self) -> None:
        """End the server; may be called from another thread."""
        self._server.stop()

    def _ready(self) -> None:
        write_address(self.options.db, self.token_file, self.address)
        if self.options.opens:
            code = self.services.codes.make("viewer" if self.options.is_read_only else "operator")
            # Some browsers return only when they end, and all of them first ask this server for its pages.
            arguments = (self.token_file, self.address, code)
            threading.Thread(target=open_browser, args=arguments, name="browser", daemon=True).start()
        if self.options.on_ready is not None:
            self.options.on_ready(self.address)


class _Server(uvicorn.Server):
    takes_signals = True

    def __init__(self, config: uvicorn.Config, feed: Feed, after_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._feed = feed
        self._after_start = after_start
        self._loop: asyncio.AbstractEventLoop | None = None  # once it runs
        self._stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._after_start()

    async def main_loop(self) -> None:
        """Wake once a second, for the header Date, instead of ten times; `stop` ends it at once."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._stopping.wait()

    def stop(self) -> None:
        """End the main loop; may be called from another thread, or from a signal handler."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it was closed meanwhile
                self._loop.call_soon_threadsafe(self._stopping.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the server; a second SIGINT does not wait for answers."""
        super().handle_exit(sig, frame)
        self.stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End the server with SIGINT and SIGTERM, without raising them again after it has ended."""
        if not self.takes_signals:
            yield
            return
        previous = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams first: they have no end, and the server would wait for them."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it reports each answer that is cut off
        self._feed.end_followers()
        await super().shutdown(sockets)


def _open(options: WebOptions) -> socket.socket:
    if options.socket_path is not None:
        return _open_unix(options.socket_path)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # With its protocol named: asyncio sets TCP_NODELAY only on such sockets, and without it the body of an answer waits
    # for the acknowledgement of its headers, 40 ms on a connection that is used again.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError as error:
        listener.close()
        raise DefinitionError(
            f"{options.host} port {options.port}: {error.strerror}; use another port with --port"
        ) from None
    listener.listen(_BACKLOG)
    return listener


def _open_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_mask = os.umask(0o177)
    try:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(path)
                raise DefinitionError(f"{path}: another server listens there; use another --socket")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise DefinitionError(f"{path}: {error.strerror or error}; use another --socket") from None
    finally:
        os.umask(old_mask)
    listener.listen(_BACKLOG)
    return listener


def _address(options: WebOptions, port: int) -> str:
    if options.socket_path is not None:
        return f"unix:{options.socket_path}"
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(options.host, options.host)
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"http://{host}:{port}{options.base_path}/"
