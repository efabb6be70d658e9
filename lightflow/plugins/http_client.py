"""One exchange over HTTP: its own rules for redirects, no retry, and each failure with a code.

Only the end of the worker process bounds the whole exchange: a server that sends one byte a second satisfies every
timeout of a socket.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final
from urllib.parse import urljoin, urlsplit, urlunsplit

import urllib3
from urllib3 import exceptions as errors

from liteflow import TaskFailed, __version__
from liteflow.api import EMPTY_MAPPING, Record

#: Methods that change nothing, so that a redirect is followed with them.
SAFE: Final = ("GET", "HEAD", "OPTIONS")
#: Methods that have the same effect when they are repeated.
REPEATABLE: Final = (*SAFE, "PUT", "DELETE", "TRACE")
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_PORTS: Final = {"http": 80, "https": 443}
_LONGEST_READ_S: Final = 300.0  # between two bytes, where the attempt has no timeout
_MARGIN_S: Final = 5.0  # after the timeout of the attempt, which ends it before its client gives up
_OF_BODY: Final = ("content-type", "content-length", "content-encoding", "transfer-encoding")


class HttpRequest(Record):
    """A request to send, with the rules for it."""

    method: str
    url: str
    headers: Mapping[str, str] = EMPTY_MAPPING
    body: Callable[[], bytes | BinaryIO] | None = None  #: opens the body, once for each server that gets it
    size: int | None = None  #: of the body in bytes
    is_repeatable: bool  #: whether it may be sent again when its effect is unknown
    redirects: int = 5
    redirect_post: bool = False  #: whether 307 and 308 to the same origin are followed with a body
    allow_hosts: tuple[str, ...] = ()  #: the hosts that may be named; empty: all
    tls: Mapping[str, Any] = EMPTY_MAPPING
    proxy: str = "env"
    connect_timeout_s: float = 10.0
    deadline: float | None = None  #: epoch seconds
    label: str = ""  #: in place of the method and the URL in messages, where the URL is a secret


class Reply(Record):
    """The beginning of an answer; its content is still to be read."""

    status: int
    reason: str
    url: str
    headers: Mapping[str, str]
    response: Any
    request: HttpRequest

    def content(self) -> Iterator[bytes]:
        """Yield the decompressed content. Raises TaskFailed."""
        with _failures(self.request, self.url, sent=True):
            yield from self.response.stream(65536, decode_content=True)


def failed(request: HttpRequest, url: str, text: str, code: str, *, final: bool = False, **details: Any) -> TaskFailed:
    """Return the failure of a request; `text` is what happened."""
    subject = request.label or f"{request.method} {shown(url)}"
    return TaskFailed(f"{subject}: {text}", codes=(f"http:{code}",), final=final, **details)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of the header Retry-After, which has seconds or a date; None: there is none."""
    text = headers.get("retry-after", "").strip()
    if not text or text.isdigit():
        return float(text) if text else None
    from email.utils import parsedate_to_datetime

    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def shown(url: str) -> str:
    """Return a URL without the user and the password in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@contextmanager
def exchange(request: HttpRequest) -> Iterator[Reply]:
    """Send a request, follow redirects, and give the answer; the connection is closed at the end. Raises TaskFailed."""
    url, method, headers, body = request.url, request.method, dict(request.headers), request.body
    cookies: dict[tuple[str, str, int], dict[str, str]] = {}
    tls = request.tls
    for hop in range(request.redirects + 1):
        _check_url(request, url)
        with _pool(request, url, tls) as pool:
            reply = _send(request, pool, method, url, _all_headers(headers, cookies.get(origin(url))), body)
            try:
                target = _target(request, reply, method, hop)
                if target is None:
                    yield reply
                    return
            finally:
                reply.response.close()
        _store_cookies(reply, cookies.setdefault(origin(url), {}))
        if reply.status == 303 and method != "HEAD":
            method, body = "GET", None
            headers = {name: value for name, value in headers.items() if name.lower() not in _OF_BODY}
        if not _keeps_headers(url, target):
            headers, tls = {}, {name: value for name, value in tls.items() if name not in ("cert", "key")}
        print(f"{reply.status}: redirected to {shown(target)}")
        url = target


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(scheme, 0)


def _check_url(request: HttpRequest, url: str) -> None:
    """Refuse a URL that is not one of HTTP, or whose host is not allowed. Raises TaskFailed."""
    try:
        scheme, host, _ = origin(url)
    except ValueError as error:
        raise failed(request, request.url, f"the URL cannot be used: {error}", "url", final=True) from None
    if scheme not in _PORTS or not host:
        raise failed(request, url, "the URL must begin with http:// or https:// and a host", "url", final=True)
    if request.allow_hosts and host not in request.allow_hosts:
        allowed = ", ".join(request.allow_hosts)
        raise failed(request, url, f"the host {host} is not among allow_hosts: {allowed}", "host", final=True)


def _keeps_headers(url: str, target: str) -> bool:
    """Return whether a redirect stays with the server: the same origin, or its encrypted form."""
    source, goal = origin(url), origin(target)
    return source == goal or (source == ("http", goal[1], 80) and goal == ("https", goal[1], 443))


def _target(request: HttpRequest, reply: Reply, method: str, hop: int) -> str | None:
    """Return the URL that a reply leads to; None: it is the answer. Raises TaskFailed where it is not followed."""
    location = reply.headers.get("location")
    if reply.status not in _REDIRECTS or not location or not request.redirects:
        return None
    url = reply.url
    target = urljoin(url, location)
    if urlsplit(target).fragment == "" and urlsplit(url).fragment:
        target = urlunsplit(urlsplit(target)._replace(fragment=urlsplit(url).fragment))

    def refused(reason: str) -> TaskFailed:
        return failed(request, url, f"{reply.status} leads to {shown(target)}, {reason}", "redirect", final=True)

    if origin(url)[0] == "https" and origin(target)[0] == "http":
        raise refused("which is not encrypted")
    if method not in SAFE and reply.status != 303:
        allowed = request.redirect_post and reply.status in (307, 308) and origin(url) == origin(target)
        if not allowed:
            raise refused(f"and a {method} is not sent twice: use that URL (redirects: {{post: true}} allows 307, 308)")
    if hop == request.redirects:
        raise refused(f"and this is redirect {hop + 1}, one more than allowed")
    return target


def _all_headers(headers: Mapping[str, str], cookies: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers to send: those of the task, and ours where the task has none."""
    result = {"User-Agent": f"lightflow/{__version__}", "Accept-Encoding": "gzip, deflate", "Accept": "*/*"}
    names = {name.lower() for name in headers}
    result = {name: value for name, value in result.items() if name.lower() not in names} | dict(headers)
    if cookies and "cookie" not in names:
        result["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return result


def _store_cookies(reply: Reply, cookies: dict[str, str]) -> None:
    """Store the cookies that an answer sets, for further requests of the attempt to the same origin."""
    from http.cookies import CookieError, SimpleCookie

    for line in reply.response.headers.getlist("set-cookie"):
        try:
            cookies.update({name: morsel.coded_value for name, morsel in SimpleCookie(line).items()})
        except CookieError:
            print("a cookie of the answer is not valid, and is left out")


def _send(
    request: HttpRequest,
    pool: Any,
    method: str,
    url: str,
    headers: dict[str, str],
    body: Callable[[], bytes | BinaryIO] | None,
) -> Reply:
    """Send one request and return the beginning of its answer. Raises TaskFailed."""
    remaining = _LONGEST_READ_S if request.deadline is None else max(request.deadline - time.time(), 0.0) + _MARGIN_S
    content = None if body is None else body()
    if content is not None and request.size is not None:
        headers["Content-Length"] = str(request.size)
    try:
        with _failures(request, url, sent=body is not None or method not in SAFE):
            response = pool.urlopen(
                method,
                url,
                body=content,
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=request.connect_timeout_s, read=remaining),
            )
    finally:
        if content is not None and not isinstance(content, bytes):
            content.close()
    names = {name.lower() for name in response.headers}
    received = {name: ", ".join(response.headers.getlist(name)) for name in names}
    return Reply(
        status=response.status,
        reason=response.reason or "",
        url=url,
        headers=received,
        response=response,
        request=request,
    )


@contextmanager
def _failures(request: HttpRequest, url: str, *, sent: bool) -> Iterator[None]:
    """Turn errors of the library into failures with codes; `sent`: the server may have acted on the request."""
    unknown = sent and not request.is_repeatable
    note = "; whether the server has done it is unknown" if unknown else ""
    try:
        yield
    except (errors.NewConnectionError, errors.ConnectTimeoutError, errors.ProxyError) as error:
        raise failed(request, url, f"no connection{_way(request, url)}: {_cause(error)}", "connect") from None
    except (errors.SSLError, ssl.SSLError) as error:
        raise failed(request, url, f"TLS: {_cause(error)}", "tls", final=True) from None
    except (errors.ReadTimeoutError, TimeoutError) as error:
        raise failed(request, url, f"no answer in time{note}: {_cause(error)}", "timeout", final=unknown) from None
    except errors.DecodeError as error:
        raise failed(
            request, url, f"the content cannot be decompressed: {_cause(error)}", "decode", final=True
        ) from None
    except (errors.LocationValueError, errors.URLSchemeUnknown) as error:
        raise failed(request, url, f"the URL cannot be used: {error}", "url", final=True) from None
    except (errors.HTTPError, OSError) as error:
        raise failed(
            request, url, f"the connection was closed{note}: {_cause(error)}", "closed", final=unknown
        ) from None


def _cause(error: BaseException) -> str:
    """Return the reason of an error of the library in few words, without its objects."""
    if isinstance(error, errors.ProxyError):
        error = error.original_error
    text = str(error)
    if text.startswith(("HTTPConnection(", "HTTPSConnection(")):
        text = text.partition("): ")[2].removeprefix("Failed to establish a new connection: ")
    reason = getattr(error, "original_error", None) or error.__cause__ or error.__context__
    if reason is not None and "object at 0x" in text:
        text = str(reason)
    return text.rpartition("object at 0x")[2].partition(": ")[2] if "object at 0x" in text else text or repr(error)


# -- connections ---------------------------------------------------------------------------------------------------


def _pool(request: HttpRequest, url: str, tls: Mapping[str, Any]) -> Any:
    """Return the connections to the server of a URL."""
    options: dict[str, Any] = {}
    if urlsplit(url).scheme.lower() == "https":
        options = {
            "ca_certs": tls.get("ca"),
            "cert_file": tls.get("cert"),
            "key_file": tls.get("key"),
            "cert_reqs": "CERT_REQUIRED" if tls.get("verify", True) else "CERT_NONE",
        }
        if not tls.get("verify", True):
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    for name in ("ca", "cert", "key"):
        if tls.get(name) and not os.path.isfile(tls[name]):
            raise failed(request, url, f"tls.{name}: there is no file {tls[name]}", "tls", final=True)
    proxy, _ = _proxy(request, url)
    if proxy is None:
        return urllib3.PoolManager(num_pools=1, **options)
    if proxy.lower().startswith("socks"):
        return _socks_manager(request, url)(proxy, num_pools=1, **options)
    try:
        return urllib3.ProxyManager(proxy, num_pools=1, proxy_headers=_proxy_auth(proxy), **options)
    except errors.HTTPError as error:
        raise failed(request, url, f"the proxy {shown(proxy)} cannot be used: {error}", "connect", final=True) from None


def _socks_manager(request: HttpRequest, url: str) -> Any:
    try:
        from urllib3.contrib.socks import SOCKSProxyManager
    except ImportError:
        text = "a SOCKS proxy needs PySocks: pip install PySocks (or `proxy: none`)"
        raise failed(request, url, text, "connect", final=True) from None
    return SOCKSProxyManager


def _proxy_auth(proxy: str) -> dict[str, str] | None:
    from urllib.parse import unquote

    parts = urlsplit(proxy)
    if not parts.username:
        return None
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return dict(urllib3.make_headers(proxy_basic_auth=user))


def _proxy(request: HttpRequest, url: str) -> tuple[str | None, str]:
    """Return the proxy for a URL, None without one, and where it is set."""
    if request.proxy == "none":
        return None, ""
    if request.proxy != "env":
        return request.proxy, "proxy"
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None, ""
    from urllib import request as standard

    proxies = {name: value for name, value in standard.getproxies_environment().items() if value}
    scheme, host, port = origin(url)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    bypassed = proxies.get("no", "").replace(" ", "").split(",")
    if host in [name.strip("[]") for name in bypassed] or standard.proxy_bypass(place):
        return None, ""
    name = scheme if scheme in proxies else "all"
    value = proxies.get(name)
    if value is not None and "://" not in value:
        value = f"http://{value}"
    return value, f"{name}_proxy"


def _way(request: HttpRequest, url: str) -> str:
    """Return the proxy that a connection goes through, in words."""
    proxy, source = _proxy(request, url)
    return "" if proxy is None else f" through the proxy {shown(proxy)} (from {source})"
