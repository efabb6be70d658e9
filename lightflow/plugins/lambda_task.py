"""Tasks that invoke a function of AWS Lambda: `type: lambda`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from lightflow.plugins.base import ConfigProblem, PluginContext, TaskType
from lightflow.plugins.connection_keys import CONNECTION, PROXY, proxy_problem
from liteflow import TaskFailed, current_context

_CONNECT_S: Final = 10.0
_LONGEST_S: Final = 15 * 60.0  # the limit of the service for one invocation
_MARGIN_S: Final = 5.0
#: The largest payload in bytes, by kind of invocation.
_MAX_PAYLOAD: Final = {"wait": 6 * 1024**2, "event": 1024**2}
_SHOWN: Final = 500
_ACCESS: Final = ("AccessDenied", "UnrecognizedClient", "InvalidSignature", "ExpiredToken", "InvalidClientTokenId")
_THROTTLED: Final = ("TooManyRequests", "Throttling", "RequestLimitExceeded")
_PLACES: Final = "`credentials`, the variables AWS_…, the profile, the role of this machine"


class LambdaTask(TaskType):
    """Invokes a function once for each attempt, and returns its answer."""

    name = "lambda"
    needs = ("botocore.session",)
    extra = "lightflow-workflows[aws]"
    timeout_s = _LONGEST_S
    hook_timeout_s = 60.0
    schema: ClassVar[Mapping[str, Any]] = {
        "description": "Invokes a function of AWS Lambda.",
        "properties": {
            "connection": CONNECTION,
            "function": {
                "description": "The function: its name, `name:alias` or an ARN.",
                "type": "string",
                "pattern": r"^[A-Za-z0-9_:$-]{1,170}$|\$\{\{",
                "examples": ["score:prod"],
                "x-expects": "the name of a function, such as score or score:prod, or an ARN",
            },
            "payload": {
                "description": "The event that the function gets, as JSON; values of expressions keep their type.",
                "default": {},
                "examples": [{"rows": "${{ tasks.load.result }}"}],
            },
            "invoke": {
                "description": "`wait` for the result of the function, or hand it an `event`: then the task succeeds "
                "when the service has accepted it, and there is no result.",
                "enum": ["wait", "event"],
                "default": "wait",
                "x-expressions": "none",
            },
            "region": {
                "description": "The region. By default that of AWS_REGION, or of the profile.",
                "type": "string",
                "minLength": 1,
                "pattern": r"^[A-Za-z0-9-]+$|\$\{\{",
                "examples": ["eu-central-1"],
                "x-expects": "a region such as eu-central-1",
                "x-connection": True,
            },
            "credentials": {
                "description": "`default`: those of the environment, as in other tools for AWS; or a profile, or keys.",
                "type": ["string", "object"],
                "pattern": "^default$",
                "properties": {
                    "profile": {"description": "A profile of ~/.aws/config.", "type": "string", "minLength": 1},
                    "access_key": {"description": "The id of a key.", "type": "string", "minLength": 1},
                    "secret_key": {"description": "The key.", "type": "string", "minLength": 1, "x-secret": True},
                    "session_token": {
                        "description": "The token of temporary keys.",
                        "type": "string",
                        "minLength": 1,
                        "x-secret": True,
                    },
                },
                "dependentRequired": {
                    "access_key": ["secret_key"],
                    "secret_key": ["access_key"],
                    "session_token": ["access_key"],
                },
                "minProperties": 1,
                "additionalProperties": False,
                "default": "default",
                "examples": [{"profile": "reports"}],
                "x-connection": True,
                "x-expects": "default, or a mapping with a profile or with keys",
            },
            "endpoint": {
                "description": "Another address of the service, for tests.",
                "type": "string",
                "pattern": r"^https?://.|\$\{\{",
                "examples": ["http://localhost:5000"],
                "x-connection": True,
                "x-expects": "a URL such as http://localhost:5000",
                "x-expressions": "url",
            },
            "proxy": PROXY,
            "log_tail": {
                "description": "Whether the last 4 KB of the function's log go to the log of the task.",
                "type": "boolean",
                "default": True,
                "x-expressions": "none",
            },
            "idempotent": {
                "description": "Whether the function may run twice: then a timeout or a broken connection is tried "
                "again, although the first invocation may still run.",
                "type": "boolean",
                "default": False,
                "x-expressions": "none",
            },
        },
        "x-answers": {
            "run function_name name arn": "function",
            "event input args arguments": "payload",
            "invocation_type": "invoke",
            "aws_region": "region",
        },
        "required": ["function"],
    }

    def check(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        credentials = config.get("credentials")
        if isinstance(credentials, dict) and "profile" in credentials and "access_key" in credentials:
            yield ConfigProblem("credentials", "has a profile and keys; keep one of them")
        if message := proxy_problem(config.get("proxy"), socks=False):
            yield ConfigProblem("proxy", message)
        if config.get("invoke") == "event" and config.get("log_tail") is True:
            yield ConfigProblem("log_tail", "an event has no log: it is for `invoke: wait`")

    def summary(self, config: Mapping[str, Any]) -> str:
        return f"{config.get('invoke', 'wait')} {config.get('function', '')}"

    def run(self, config: Mapping[str, Any], context: PluginContext) -> Any:
        kind = config.get("invoke", "wait")
        payload = _payload(config, kind)
        with _failures(config):
            client = _client(config, context)
            begin = time.monotonic()
            try:
                answer = client.invoke(
                    FunctionName=config["function"],
                    InvocationType="Event" if kind == "event" else "RequestResponse",
                    LogType="Tail" if kind == "wait" and config.get("log_tail", True) else "None",
                    ClientContext=_client_context(context),
                    Payload=payload,
                )
                content: bytes = answer["Payload"].read()
            except SystemExit:  # the attempt is being ended
                print("the function continues at AWS: an invocation cannot be stopped", flush=True)
                raise
        return _value(config, answer, content, time.monotonic() - begin)


def _payload(config: Mapping[str, Any], kind: str) -> bytes:
    """Return the payload as JSON. Raises TaskFailed before anything is sent."""
    try:
        payload = json.dumps(config.get("payload", {}), ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise _failed(config, f"the payload is not JSON: {error}", "payload", final=True) from None
    if len(payload) > _MAX_PAYLOAD[kind]:
        text = f"the payload has {len(payload):,} bytes, more than the {_MAX_PAYLOAD[kind]:,} of the service"
        raise _failed(config, text, "too_large", final=True)
    return payload


def _client_context(context: PluginContext) -> str:
    """Return the key that all attempts share, where a function finds it: `context.client_context.custom`."""
    import base64

    return base64.b64encode(json.dumps({"custom": {"lightflow_key": context.key}}).encode()).decode()


def _client(config: Mapping[str, Any], context: PluginContext) -> Any:
    """Return a client of the service that invokes once: its own retries are off."""
    import botocore.session
    from botocore.config import Config

    credentials = config.get("credentials", "default")
    keys = credentials if isinstance(credentials, dict) else {}
    remaining = _LONGEST_S if context.deadline is None else max(context.deadline - time.time(), 0.0)
    session = botocore.session.Session(profile=keys.get("profile"))
    return session.create_client(
        "lambda",
        region_name=config.get("region"),
        endpoint_url=config.get("endpoint"),
        aws_access_key_id=keys.get("access_key"),
        aws_secret_access_key=keys.get("secret_key"),
        aws_session_token=keys.get("session_token"),
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=_CONNECT_S,
            read_timeout=min(remaining, _LONGEST_S) + _MARGIN_S,
            tcp_keepalive=True,
            proxies=_proxies(config.get("proxy", "env")),
        ),
    )


def _proxies(proxy: str) -> dict[str, str] | None:
    """Return the proxies of a client; None: those of the environment."""
    if proxy == "env":
        return None
    return {} if proxy == "none" else {"http": proxy, "https": proxy}


# -- the answer ----------------------------------------------------------------------------------------------------


def _value(config: Mapping[str, Any], answer: Mapping[str, Any], content: bytes, seconds: float) -> Any:
    """Return the result of the function, and store what else the answer says. Raises TaskFailed."""
    values: dict[str, Any] = {
        "status": answer["StatusCode"],
        "request_id": answer["ResponseMetadata"].get("RequestId"),
        "version": answer.get("ExecutedVersion"),
    }
    if "LogResult" in answer:
        import base64

        tail = base64.b64decode(answer["LogResult"]).decode("utf-8", "replace")
        print(tail.rstrip(), flush=True)
        billed = re.search(r"Billed Duration: ([0-9]+) ms", tail)
        values["billed_ms"] = int(billed[1]) if billed else None
    if error := answer.get("FunctionError"):
        raise _function_error(config, str(error), content)
    for name, value in values.items():
        if value is not None:
            current_context().xcom_push(name, value)
    if config.get("invoke") == "event":
        print("accepted; there is no result")
        return None
    print(f"{config['function']} has returned {len(content):,} bytes after {seconds:.2f} s")
    try:
        return json.loads(content) if content else None
    except ValueError as error:
        text = f"its result is not JSON: {error}; it begins with {content[:_SHOWN].decode('utf-8', 'replace')!r}"
        raise _failed(config, text, "result", final=True) from None


def _function_error(config: Mapping[str, Any], kind: str, content: bytes) -> TaskFailed:
    """Return the failure of the function itself, with its message and its stack."""
    try:
        details = json.loads(content)
    except ValueError:
        details = content.decode("utf-8", "replace")
    if not isinstance(details, dict):
        return _failed(config, str(details)[:_SHOWN], kind)
    stack = details.get("stackTrace") or details.get("trace") or ()
    lines = [str(line).rstrip("\n") for line in stack] if isinstance(stack, list) else [str(stack)]
    if lines:
        print("\n".join(lines), flush=True)
    error_type, message = details.get("errorType", "error"), details.get("errorMessage", "")
    return _failed(config, f"{error_type}: {message}", kind)


# -- failures ------------------------------------------------------------------------------------------------------


def _failed(
    config: Mapping[str, Any], text: str, *codes: str, final: bool = False, retry_after_s: float | None = None
) -> TaskFailed:
    names = tuple(code if ":" in code else f"lambda:{code}" for code in codes)
    return TaskFailed(f"lambda {config['function']}: {text}", codes=names, final=final, retry_after_s=retry_after_s)


@contextmanager
def _failures(config: Mapping[str, Any]) -> Iterator[None]:
    """Turn errors of the library into failures with codes."""
    from botocore import exceptions as errors

    unknown = not config.get("idempotent")
    note = "; the function may have run, or still runs" if unknown else ""
    try:
        yield
    except errors.ClientError as error:
        raise _refused(config, error.response) from None
    except errors.NoRegionError:
        text = "no region: write `region`, or set AWS_REGION or the region of the profile"
        raise _failed(config, text, "region", final=True) from None
    except (errors.NoCredentialsError, errors.PartialCredentialsError, errors.CredentialRetrievalError):
        raise _failed(config, f"no credentials; these were read: {_PLACES}", "credentials", final=True) from None
    except errors.ProfileNotFound as error:
        raise _failed(config, str(error), "credentials", final=True) from None
    except (errors.EndpointConnectionError, errors.ConnectTimeoutError, errors.ProxyConnectionError) as error:
        raise _failed(config, f"no connection: {error}", "connect") from None
    except errors.SSLError as error:
        raise _failed(config, f"TLS: {error}", "tls", final=True) from None
    except errors.ReadTimeoutError as error:
        raise _failed(config, f"no answer in time{note}: {error}", "timeout", final=unknown) from None
    except errors.HTTPClientError as error:
        raise _failed(config, f"the connection was closed{note}: {error}", "closed", final=unknown) from None
    except (errors.BotoCoreError, ValueError) as error:
        raise _failed(config, str(error), "client", final=True) from None


def _refused(config: Mapping[str, Any], response: Mapping[str, Any]) -> TaskFailed:
    """Return the failure of an invocation that the service has refused."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    details = response.get("Error", {})
    name = str(details.get("Code", "Unknown")).removesuffix("Exception")
    text = f"{status} {name}: {details.get('Message', '')}"
    if name in _THROTTLED or status == 429:
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        wait = str(headers.get("retry-after", ""))
        seconds = float(wait) if wait.isdigit() else None
        return _failed(config, text, "TooManyRequests", f"http:{status}", retry_after_s=seconds)
    if status >= 500:
        return _failed(config, text, "Service", f"http:{status}")
    kind = "Access" if name in _ACCESS or status == 403 else "NotFound" if name == "ResourceNotFound" else name
    return _failed(config, text, kind, f"http:{status}", final=True)
