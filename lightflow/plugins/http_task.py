"""Tasks that are one HTTP request: `type: http`."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from lightflow.plugins.base import ConfigProblem, PluginContext, TaskType
from lightflow.plugins.connection_keys import CONNECTION, PROXY, TLS, proxy_problem
from lightflow.plugins.http_bodies import BODIES, body_of, pairs_of, scalar
from lightflow.spec.durations import seconds
from liteflow import TaskFailed, current_context
from liteflow.api import replace

_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_ERROR_BYTES: Final = 64 * 1024  # of the content of an error, for the log
_MESSAGE_CHARACTERS: Final = 500
_SHOWN_JSON: Final = 200
_UNITS: Final = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}
_BASE: Final = r"https?://[^/?#]+[^?#]*"
#: The server of a URL, whose user, host and port are not empty by mistake.
_SERVER: Final = re.compile(
    r"https?://((?P<user>[^/?#]*)@)?(?P<host>\[[^\]/?#]*\]|[^:/?#]*)(:(?P<port>\d*))?(?=[/?#]|$)", re.I
)
_HEADER_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MAX_PORT: Final = 65535
_STEP: Final = re.compile(r"\.?([^.\[\]]+)|\[([0-9]+)\]")
#: Answers after which a request that may be repeated is tried again.
_TEMPORARY: Final = (408, 425, 429)
_STATUS: Final = {
    "type": ["integer", "string"],
    "minimum": 100,
    "maximum": 599,
    "pattern": "^[1-5]([0-9][0-9]|xx)$",
    "x-expects": "a status such as 200, or 2xx",
}


def _secret(description: str) -> dict[str, Any]:
    return {"description": description, "type": "string", "minLength": 1, "x-secret": True, "x-expressions": "header"}


def _text(description: str, **keywords: Any) -> dict[str, Any]:
    return {"description": description, "type": "string", "minLength": 1, **keywords}


class HttpTask(TaskType):
    """Sends one request, follows redirects by its own rules, and stores or saves the answer."""

    name = "http"
    needs = ("urllib3",)
    extra = "lightflow-workflows[http]"
    timeout_s = 300.0
    schema: ClassVar[Mapping[str, Any]] = {
        "description": "Sends an HTTP request. Its value is the content of the answer.",
        "properties": {
            "url": _text(
                "The URL. Values in the path and the query are percent-encoded. With a connection it is a path, such "
                "as `/orders`, which follows the `url` of the connection.",
                examples=["https://example.org/orders/${{ params.day }}"],
                **{"x-expressions": "url"},
            ),
            "base_url": _text(
                "The URL that a `url` such as `/orders` follows. In a connection it is written `url`.",
                examples=["https://api.example.org/v1"],
                **{"x-expressions": "url", "x-connection": "url"},
            ),
            "connection": CONNECTION,
            "method": {
                "description": "The method: GET, or POST if there is a body.",
                "enum": _METHODS,
                "examples": ["POST"],
                "x-expressions": "none",
            },
            "query": {
                "description": "Parameters that are added to the URL; a list means the parameter several times.",
                "type": "object",
                "x-connection": True,
                "examples": [{"day": "${{ params.day }}", "tag": ["a", "b"]}],
            },
            "headers": {
                "description": "Headers of the request. They are not sent to another server after a redirect.",
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean"]},
                "examples": [{"X-Api-Key": "${{ secrets.API_KEY }}"}],
                "x-expressions": "header",
                "x-connection": True,
            },
            "auth": {
                "description": "How the request is authorized: a bearer token, a user with a password, or a header.",
                "type": "object",
                "properties": {
                    "bearer": _secret("The token."),
                    "basic": {
                        "description": "A user and a password.",
                        "type": "object",
                        "properties": {"user": _text("The user."), "password": _secret("The password.")},
                        "required": ["user", "password"],
                        "additionalProperties": False,
                    },
                    "header": {
                        "description": "A header with a key.",
                        "type": "object",
                        "properties": {"name": _text("Its name."), "value": _secret("Its value.")},
                        "required": ["name", "value"],
                        "additionalProperties": False,
                    },
                },
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
                "examples": [{"bearer": "${{ secrets.TOKEN }}"}],
                "x-connection": True,
            },
            "json": {
                "description": "A body in JSON; values of expressions keep their type.",
                "examples": [{"rows": "${{ tasks.count.result }}"}],
            },
            "form": {
                "description": "A body with the fields of a form.",
                "type": "object",
                "examples": [{"name": "daily"}],
            },
            "body": {"description": "A body of text, in UTF-8.", "type": "string", "examples": ["ping"]},
            "file": _text("A file that is sent as the body, without being read into memory.", examples=["out.csv"]),
            "multipart": {
                "description": "A body of several parts: a text, or a mapping with `file` and perhaps `type`.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "type": ["string", "number", "boolean", "object"],
                    "properties": {"file": _text("The file."), "type": _text("Its media type.")},
                    "required": ["file"],
                    "additionalProperties": False,
                },
                "examples": [{"report": {"file": "out.csv", "type": "text/csv"}}],
            },
            "expect": {
                "description": "The answers that are a success: the status (200 to 299 by default), and values in JSON "
                "by their path.",
                "type": "object",
                "properties": {
                    "status": {
                        "description": "The statuses.",
                        **_STATUS,
                        "type": ["array", "integer", "string"],
                        "items": _STATUS,
                        "minItems": 1,
                        "x-list": True,
                    },
                    "json": {"description": "Values by their path, such as `$.state`.", "type": "object"},
                },
                "minProperties": 1,
                "additionalProperties": False,
                "examples": [{"status": [200, 202], "json": {"$.state": "done"}}],
            },
            "response": {
                "description": "How the content becomes the value: `auto` by its media type, or as JSON, text, base64, "
                "or not at all.",
                "enum": ["auto", "json", "text", "base64", "none"],
                "default": "auto",
                "x-expressions": "none",
            },
            "max_size": {
                "description": "The largest content, after decompression. With `save` there is no limit by default.",
                "type": ["integer", "string"],
                "minimum": 1,
                "maximum": 10**15,
                "pattern": r"^[0-9]+(\.[0-9]+)? ?(B|[kKMG]i?B)?$",
                "default": "10MB",
                "x-expects": "a number of bytes, or a size such as 10MB",
                "x-expressions": "none",
            },
            "save": _text(
                "A file for the content, written as a whole or not at all; then the content is not the value.",
                examples=["out/orders.json"],
            ),
            "redirects": {
                "description": "How many redirects are followed. A mapping with `post: true` also follows 307 and 308 "
                "to the same server with the body of a POST.",
                "type": ["integer", "object"],
                "minimum": 0,
                "maximum": 20,
                "properties": {
                    "max": {"description": "How many.", "type": "integer", "minimum": 0, "maximum": 20, "default": 5},
                    "post": {"description": "Whether 307 and 308 send a body again.", "type": "boolean"},
                },
                "additionalProperties": False,
                "default": 5,
                "examples": [0, {"post": True}],
                "x-expressions": "none",
            },
            "connect_timeout": {
                "description": "The longest time for a connection. `timeout` limits all of the request: by default 5m.",
                "type": ["number", "string"],
                "exclusiveMinimum": 0,
                "maximum": 3600,
                "pattern": r"^([0-9]+m)?([0-9]+(\.[0-9]+)?s)?$",
                "minLength": 1,
                "default": "10s",
                "x-expects": 'a time: seconds such as 10, or text such as "10s"',
                "x-expressions": "none",
                "x-connection": True,
            },
            "tls": TLS,
            "proxy": PROXY,
            "idempotency": _text(
                "Send a key that all attempts share, so that the server can detect a repetition: `header` means "
                "`Idempotency-Key`, else the name of a header. Then a POST may be tried again.",
                pattern="^[A-Za-z0-9_-]+$",
                examples=["header"],
                **{"x-expects": "`header`, or the name of a header", "x-expressions": "none"},
            ),
            "allow_hosts": {
                "description": "The hosts that the URL and redirects may name, for a URL that comes from elsewhere.",
                "type": "array",
                "items": _text(
                    "A host.",
                    pattern=r"^([^\s/@:\[\]]+|[0-9A-Fa-f]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)$",
                    **{"x-expects": "a host such as api.example.org, without a scheme and a port"},
                ),
                "minItems": 1,
                "examples": [["api.example.org"]],
                "x-expressions": "none",
                "x-connection": True,
            },
        },
        "x-answers": {
            "run uri endpoint address": "url",
            "data payload content": "write `json`, `form` or `body`",
            "params parameters": "query",
            "verb": "method",
            "token bearer": 'a token is `auth: {bearer: "${{ secrets.TOKEN }}"}`',
            "user username password": "a user is `auth: {basic: {user: …, password: …}}`",
            "verify ssl insecure": "the certificate is not checked with `tls: {verify: false}`",
            "output out": "save",
            "status_code status": "the expected status is `expect: {status: 200}`",
        },
        "required": ["url"],
    }

    def check(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        yield from _url_problems(config)
        if message := proxy_problem(config.get("proxy"), socks=True):
            yield ConfigProblem("proxy", message)
        yield from _header_problems(config)
        if "save" in config and config.get("response", "none") != "none":
            yield ConfigProblem("response", "with `save` the content goes to the file as it is; remove `response`")
        bodies = [key for key in BODIES if key in config]
        for key in bodies[1:]:
            yield ConfigProblem(key, f'"{key}" and "{bodies[0]}" are both a body; keep one of them')
        if bodies and config.get("method") in ("GET", "HEAD"):
            yield ConfigProblem("method", f"{config['method']} has no body: remove `{bodies[0]}`, or write POST")
        expect = config.get("expect")
        paths = expect.get("json") if isinstance(expect, dict) else None
        for path in paths if isinstance(paths, dict) else ():
            if _steps(str(path)) is None:
                yield ConfigProblem("expect", f"{path!r} is not a path such as $.items[0].state")

    def hints(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        retry: Mapping[str, Any] = config.get("retry") or {}
        retries = config.get("retries", retry.get("max"))
        named = retry.keys() & {"on_status", "on_codes"}
        if retries and _method(config) in ("POST", "PATCH") and "idempotency" not in config and not named:
            message = (
                f"a {_method(config)} is tried again only if nothing was sent, as it might have its effect twice; "
                "write `idempotency: header` if the server knows such keys, or name statuses in `retry.on_status`"
            )
            yield ConfigProblem("retries" if "retries" in config else "retry", message)

    def needed_modules(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        return (*self.needs, *(["socks"] if str(config.get("proxy")).startswith("socks") else []))

    def summary(self, config: Mapping[str, Any]) -> str:
        return f"{_method(config)} {str(config.get('base_url', '')).rstrip('/')}{config.get('url', '')}"

    def run(self, config: Mapping[str, Any], context: PluginContext) -> Any:
        from lightflow.plugins.http_client import SAFE, exchange, shown

        request, begin = _request(config, context), time.monotonic()
        try:
            with exchange(request) as reply:
                print(f"{request.method} {shown(reply.url)}: {reply.status} {reply.reason}", flush=True)
                value, values = _Answer(config, reply).read()
        except SystemExit:  # the attempt is being ended
            if request.method not in SAFE:
                print("the request was sent; whether the server has done it is unknown", flush=True)
            raise
        for name, output in values.items():
            current_context().xcom_push(name, output)
        print(f"done in {time.monotonic() - begin:.2f} s")
        return value


def _url_problems(config: Mapping[str, Any]) -> Iterator[ConfigProblem]:
    url, base = config.get("url"), config.get("base_url")
    if isinstance(base, str) and not base.startswith("${{") and not re.fullmatch(_BASE, base, re.IGNORECASE):
        yield ConfigProblem("base_url", "must be a URL such as https://api.example.org/v1, without ? and #")
    if not isinstance(url, str) or url.startswith("${{"):
        return
    if base is None and "connection" not in config and not re.match(r"https?://[^/?#]", url, re.IGNORECASE):
        yield ConfigProblem("url", "must begin with http:// or https:// and a host")
    if base is not None and not url.startswith("/"):
        yield ConfigProblem("url", "must be a path such as /orders: the connection or `base_url` has the server")
    for key in ("url", "base_url"):
        match = _SERVER.match(str(config.get(key)))
        if (
            match is not None
            and "${{" not in match[0]
            and (message := _server_problem(match, config.get("allow_hosts")))
        ):
            yield ConfigProblem(key, message)


def _server_problem(match: re.Match[str], allow_hosts: Any) -> str:
    """Return what is wrong with the server in a URL; empty where nothing is."""
    host, port = match["host"], match["port"]
    if match["user"] is not None:
        return "a user is not a part of the URL: write `auth: {basic: {user: …, password: …}}`"
    if not re.fullmatch(r"[\w.-]+|\[[0-9A-Fa-f:.]+(%\w+)?\]", host):
        return f"{host!r} cannot be the name of a host"
    if port and int(port) > _MAX_PORT:
        return f"the port {port} is too large: ports end with {_MAX_PORT}"
    if isinstance(allow_hosts, list) and host.strip("[]").lower() not in [str(each).lower() for each in allow_hosts]:
        return f"the host {host} is not one of `allow_hosts`"
    return ""


def _header_problems(config: Mapping[str, Any]) -> Iterator[ConfigProblem]:
    """Report names that headers cannot have, and headers that the request would have twice."""
    headers, auth, idempotency = config.get("headers"), config.get("auth"), config.get("idempotency")
    written = [("headers", str(name)) for name in (headers if isinstance(headers, dict) else ())]
    if isinstance(auth, dict) and auth:
        header = auth.get("header")
        name = header.get("name") if isinstance(header, dict) else "Authorization"
        written += [("auth", name)] if isinstance(name, str) and "${{" not in name else []
    if isinstance(idempotency, str):
        written.append(("idempotency", "Idempotency-Key" if idempotency == "header" else idempotency))
    names: set[str] = set()
    for key, name in written:
        if not re.fullmatch(_HEADER_NAME, name):
            yield ConfigProblem(key, f"{name!r} cannot be the name of a header")
        if name.lower() in names:
            yield ConfigProblem(key, f'the header "{name}" is written twice; capitals do not matter')
        names.add(name.lower())


def answered(config: Mapping[str, Any], context: PluginContext) -> tuple[Any, Mapping[str, Any]]:
    """Send a request that may be repeated. Return the content of the expected answer, and what else is to be stored.

    Raises TaskFailed.
    """
    from lightflow.plugins.http_client import exchange

    with exchange(replace(_request(config, context), is_repeatable=True)) as reply:
        return _Answer(config, reply).read()


def _method(config: Mapping[str, Any]) -> str:
    """Return the method of a request: GET, or POST if there is a body."""
    return str(config.get("method") or ("POST" if any(key in config for key in BODIES) else "GET"))


def size_in_bytes(value: int | str) -> int:
    """Return the bytes of a size such as 10MB."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"([0-9.]+) ?([A-Za-z]*)", value)
    if match is None:
        raise TaskFailed(f"{value!r} is not a size such as 10MB", final=True)
    return int(float(match[1]) * _UNITS[match[2].upper()])


# -- the request ---------------------------------------------------------------------------------------------------


def _request(config: Mapping[str, Any], context: PluginContext) -> Any:
    from lightflow.plugins.http_client import REPEATABLE, HttpRequest

    method, redirects = _method(config), config.get("redirects", 5)
    body, headers = body_of(config), _headers(config, context)
    if body.media_type and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = body.media_type
    return HttpRequest(
        method=method,
        url=_with_query(_full_url(config), config.get("query") or {}),
        headers=headers,
        body=body.open,
        size=body.size,
        is_repeatable=method in REPEATABLE or "idempotency" in config,
        redirects=redirects.get("max", 5) if isinstance(redirects, dict) else redirects,
        redirect_post=isinstance(redirects, dict) and bool(redirects.get("post")),
        allow_hosts=tuple(host.lower() for host in config.get("allow_hosts", ())),
        tls=config.get("tls") or {},
        proxy=config.get("proxy", "env"),
        connect_timeout_s=seconds(config.get("connect_timeout", 10)),
        deadline=context.deadline,
    )


def _full_url(config: Mapping[str, Any]) -> str:
    """Return the URL, after that of the connection. Raises TaskFailed where it would lead to another server."""
    url, base = str(config["url"]), config.get("base_url")
    if base is None:
        return url
    if not url.startswith("/"):
        text = f"the url {url[:80]!r} must be a path such as /orders: the connection or `base_url` has the server"
        raise TaskFailed(text, codes=("http:url",), final=True)
    return f"{str(base).rstrip('/')}{url}"


def _with_query(url: str, query: Mapping[str, Any]) -> str:
    from urllib.parse import urlencode, urlsplit, urlunsplit

    if not query:
        return url
    text = urlencode(list(pairs_of(query)))
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{text}" if parts.query else text))


def _headers(config: Mapping[str, Any], context: PluginContext) -> dict[str, str]:
    headers = {name: scalar(value) for name, value in (config.get("headers") or {}).items()}
    auth = config.get("auth") or {}
    if "bearer" in auth:
        headers["Authorization"] = f"Bearer {auth['bearer']}"
    elif "basic" in auth:
        import base64

        pair = f"{auth['basic']['user']}:{auth['basic']['password']}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    elif "header" in auth:
        headers[auth["header"]["name"]] = auth["header"]["value"]
    if name := config.get("idempotency"):
        headers["Idempotency-Key" if name == "header" else name] = context.key
    for header, value in headers.items():
        if not re.fullmatch(_HEADER_NAME, header):
            raise TaskFailed(f"{header!r} cannot be the name of a header", codes=("http:header",), final=True)
        if any(character in value for character in "\r\n\0"):
            raise TaskFailed(f"the header {header} holds a line break", codes=("http:header",), final=True)
        if not value.isascii():
            headers[header] = value.encode().decode("latin-1")
    return headers


# -- the answer ----------------------------------------------------------------------------------------------------


class _Answer:
    """Reads an answer: checks its status, stores its content, and names its values."""

    def __init__(self, config: Mapping[str, Any], reply: Any) -> None:
        self._config = config
        self._reply = reply
        self._expect: Mapping[str, Any] = config.get("expect") or {}

    def read(self) -> tuple[Any, dict[str, Any]]:
        """Return the content, or nothing if it is saved or not wanted, and the further values. Raises TaskFailed."""
        reply, config = self._reply, self._config
        if not self._is_expected():
            raise self._refused()
        values: dict[str, Any] = {"status": reply.status, "url": _without_secrets(reply.url)}
        received = {name: text for name, text in reply.headers.items() if name != "set-cookie"}
        values["headers"] = {name: _without_secrets(text) for name, text in received.items()}
        value = None
        if "save" in config:
            values |= self._save(config["save"])
        else:
            content = self._read(size_in_bytes(config.get("max_size", "10MB")))
            values |= {"size": len(content), "sha256": _sha256(content)}
            value = self._decoded(content)
            self._check_json(content)
        return value, values

    def _failure(self, text: str, code: str, *, final: bool = False, **details: Any) -> TaskFailed:
        from lightflow.plugins.http_client import failed

        return failed(self._reply.request, self._reply.url, text, code, final=final, **details)

    def _is_expected(self) -> bool:
        wanted = self._expect.get("status", "2xx")
        patterns = wanted if isinstance(wanted, list) else [wanted]
        text = str(self._reply.status)
        return any(text == str(each) or (str(each)[1:] == "xx" and text[0] == str(each)[0]) for each in patterns)

    def _refused(self) -> TaskFailed:
        """Return the failure of an unexpected status; the content goes to the log."""
        from lightflow.plugins.http_client import retry_after_s

        reply = self._reply
        content = bytearray()
        for chunk in reply.content():
            content += chunk
            if len(content) >= _ERROR_BYTES:
                break
        text = content[:_ERROR_BYTES].decode("utf-8", "replace").strip()
        if text:
            print(text, flush=True)
        temporary = reply.status in _TEMPORARY or reply.status >= 500
        shown = f": {text[:_MESSAGE_CHARACTERS]}" if text else ""
        return self._failure(
            f"{reply.status} {reply.reason}{shown}",
            str(reply.status),
            final=not (temporary and reply.request.is_repeatable),
            retry_after_s=retry_after_s(reply.headers),
        )

    def _limited(self, limit: int | None) -> Iterator[bytes]:
        size = 0
        for chunk in self._reply.content():
            size += len(chunk)
            if limit is not None and size > limit:
                text = (
                    f"the content is larger than {limit:,} bytes: write it to a file with `save`, or raise `max_size`"
                )
                raise self._failure(text, "too_large", final=True)
            yield chunk

    def _read(self, limit: int) -> bytes:
        return b"".join(self._limited(limit))

    def _save(self, path: str) -> dict[str, Any]:
        """Write the content to a file, as a whole or not at all. Return its size and checksum."""
        import hashlib

        limit = self._config.get("max_size")
        digest, size, part = hashlib.sha256(), 0, f"{path}.part"
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(part, "wb") as file:
                for chunk in self._limited(None if limit is None else size_in_bytes(limit)):
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                file.flush()
                os.fsync(file.fileno())
            if self._expect.get("json"):  # before the file gets its name
                self._check_json(_read_file(part))
            os.replace(part, path)
        except OSError as error:
            text = f"the content cannot be saved as {path}: {error.strerror}"
            raise self._failure(text, "save", final=True) from None
        finally:
            if os.path.exists(part):
                os.unlink(part)
        print(f"saved {size:,} bytes as {path}")
        return {"size": size, "sha256": digest.hexdigest(), "file": os.path.abspath(path)}

    def _decoded(self, content: bytes) -> Any:
        """Return the content as the key `response` says."""
        how = self._config.get("response", "auto")
        media_type, _, parameters = self._reply.headers.get("content-type", "").lower().partition(";")
        media_type = media_type.strip()
        if how == "auto":
            is_json = media_type == "application/json" or media_type.endswith("+json")
            words = ("xml", "javascript", "yaml", "csv", "x-www-form-urlencoded")
            is_text = media_type.startswith("text/") or any(word in media_type for word in words)
            how = "json" if is_json else "text" if is_text else "base64"
        if how == "none" or (not content and how != "json"):
            return None
        if how == "base64":
            import base64

            return base64.b64encode(content).decode()
        if how == "json":
            return self._json(content)
        charset = re.search(r"charset=[\"']?([\w.:-]+)", parameters)
        try:
            return content.decode(charset[1] if charset else "utf-8")
        except (LookupError, UnicodeDecodeError):
            print("the encoding of the content is unknown or wrong: it is read as UTF-8")
            return content.decode("utf-8", "replace")

    def _json(self, content: bytes) -> Any:
        if not content and self._reply.status in (204, 304):
            return None
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            text = content[:_SHOWN_JSON].decode("utf-8", "replace")
            raise self._failure(
                f"the content is not JSON: {error}; it begins with {text!r}", "json", final=True
            ) from None

    def _check_json(self, content: bytes) -> None:
        paths: Mapping[str, Any] = self._expect.get("json") or {}
        document = self._json(content) if paths else None
        for path, wanted in paths.items():
            value: Any = document
            for step in _steps(path) or ():
                try:
                    value = value[step]
                except (KeyError, IndexError, TypeError):
                    value = None
                    break
            if value != wanted or isinstance(value, bool) is not isinstance(wanted, bool):
                text = f"{path} is {json.dumps(value)[:_SHOWN_JSON]}, expected {json.dumps(wanted, default=str)}"
                raise self._failure(text, "expect", final=True)


def _steps(path: str) -> list[str | int] | None:
    """Return the keys and indexes of a path such as `$.items[0].state`; None: it is not valid."""
    if not path.startswith("$"):
        return None
    steps: list[str | int] = []
    end = 1
    while end < len(path):
        match = _STEP.match(path, end)
        if match is None or (match[1] is not None and path[end] != "."):
            return None
        steps.append(int(match[2]) if match[2] is not None else match[1])
        end = match.end()
    return steps


def _without_secrets(text: str) -> str:
    """Return a text with the secrets of the run masked, also where they are percent-encoded."""
    from urllib.parse import quote, quote_plus

    for value in current_context().secrets.values():
        for form in {value, quote(value, safe=""), quote_plus(value)} - {""}:
            text = text.replace(form, "***")
    return text


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def _read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
