"""Tasks and hooks that send a mail: `type: mail`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Final

from lightflow.plugins.base import ConfigProblem, PluginContext, TaskType
from lightflow.plugins.connection_keys import CONNECTION
from liteflow import TaskFailed, current_context

_SOCKET_S: Final = 30.0
_MAX_ATTACHED: Final = 20 * 1000 * 1000
_MARKER_BYTES: Final = 30  # in place of a file while the message is made
_BLOCK_BYTES: Final = 57 * 1024  # of a file; 57 bytes are a line of base64
_HEADERS: Final = ("from", "to", "cc", "subject", "reply_to")


def _addresses(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": ["array", "string"],
        "items": {"type": "string", "minLength": 1},
        "minItems": 1,
        "minLength": 1,
        "x-list": True,
        "x-expressions": "header",
    }


class MailTask(TaskType):
    """Sends one message over an encrypted connection, or says which recipients the server refuses."""

    name = "mail"
    needs = ("smtplib",)
    timeout_s = 120.0
    hook_timeout_s = 20.0
    hook_retries = 1
    schema: ClassVar[Mapping[str, Any]] = {
        "description": "Sends a mail.",
        "properties": {
            "connection": CONNECTION,
            "server": {
                "description": "The server for outgoing mail: `smtp://USER@HOST:PORT`, or `smtps://` if the connection "
                "is encrypted from its beginning. The default ports are 587 and 465.",
                "type": "string",
                "pattern": r"^smtps?://.|\$\{\{",
                "examples": ["smtp://reports@mail.example.org"],
                "x-connection": True,
                "x-expects": "a URL such as smtp://user@mail.example.org:587",
            },
            "password": {
                "description": "The password of the user.",
                "type": "string",
                "minLength": 1,
                "examples": ["${{ secrets.MAIL_PASSWORD }}"],
                "x-connection": True,
                "x-secret": True,
            },
            "tls": {
                "description": "`required`: the connection is encrypted, and the certificate of the server is checked. "
                "`none`: it is not, which allows no password.",
                "enum": ["required", "none"],
                "x-connection": True,
                "default": "required",
                "x-expressions": "none",
            },
            "ca": {
                "description": "A file with the certificates of authorities that are trusted.",
                "type": "string",
                "minLength": 1,
                "examples": ["ca.pem"],
                "x-connection": True,
            },
            "from": {
                "description": "The sender.",
                "type": "string",
                "minLength": 1,
                "examples": ["Reports <reports@example.org>"],
                "x-connection": True,
                "x-expressions": "header",
            },
            "to": {**_addresses("The recipients."), "examples": [["team@example.org"]]},
            "cc": _addresses("Recipients of a copy."),
            "bcc": _addresses("Recipients that the others do not see."),
            "reply_to": _addresses("Where answers go."),
            "subject": {
                "description": "The subject. By default it names the workflow and what has happened.",
                "type": "string",
                "minLength": 1,
                "examples": ["Report of ${{ run.logical_date }}"],
                "x-expressions": "header",
            },
            "text": {"description": "The message.", "type": "string", "examples": ["3 rows"]},
            "html": {"description": "The message in HTML, for readers that show it.", "type": "string"},
            "attach": {
                "description": "Files to attach, at most 20 MB together; `*` and `?` stand for any characters.",
                "type": ["array", "string"],
                "items": {"type": "string", "minLength": 1},
                "minItems": 1,
                "minLength": 1,
                "examples": [["out/*.csv"]],
                "x-list": True,
            },
            "strict": {
                "description": "Whether a single refused recipient fails the task; otherwise only if all are refused.",
                "type": "boolean",
                "default": False,
                "x-expressions": "none",
            },
        },
        "x-answers": {
            "host smtp smtp_host port": "server",
            "sender": "from",
            "recipient recipients": "to",
            "body message content": "text",
            "attachment attachments files": "attach",
            "user username": "the user is in `server`: smtp://USER@HOST",
        },
        "required": ["server", "from", "to"],
    }

    def check(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        server, password = config.get("server"), config.get("password")
        if isinstance(server, str) and "${{" not in server:
            match = re.match(r"smtps?://(?:([^@/]*)@)?([^@/:]+|\[[^\]]+\])(?::([0-9]+))?/?$", server)
            if match is None:
                yield ConfigProblem("server", "must be a URL such as smtp://user@mail.example.org:587")
            elif ":" in (match[1] or ""):
                yield ConfigProblem("server", "a password in clear text: write `password: ${{ secrets.NAME }}`")
            elif match[3] and int(match[3]) > 65535:
                yield ConfigProblem("server", f"the port {match[3]} is too large: ports end with 65535")
            elif password is not None and not match[1]:
                yield ConfigProblem("server", "needs the user of the password: smtp://USER@HOST")
            if config.get("tls") == "none" and server.startswith("smtps:"):
                yield ConfigProblem("tls", "smtps is encrypted: remove `tls`, or write smtp://")
        if password is not None and config.get("tls") == "none":
            yield ConfigProblem("tls", "a password needs an encrypted connection")
        for key in ("from", "to", "cc", "bcc", "reply_to"):
            for address in [config[key]] if isinstance(config.get(key), str) else config.get(key) or ():
                if isinstance(address, str) and "${{" not in address and not _is_address(address):
                    yield ConfigProblem(key, f"{address!r} is not an address such as name@example.org")

    def summary(self, config: Mapping[str, Any]) -> str:
        to = config.get("to", "")
        return f"mail to {to if isinstance(to, str) else ', '.join(map(str, to))}"

    def run(self, config: Mapping[str, Any], context: PluginContext) -> Any:
        message, recipients, attachments = _message(config, context)
        with _failures(config) as step, _connected(config, step) as client:
            refused = _send(client, config, recipients, _content(message, attachments), step)
        for address, reason in refused.items():
            print(f"refused: {address}: {reason}")
        if refused and config.get("strict"):
            raise TaskFailed(f"mail: refused: {', '.join(refused)}", codes=("mail:refused",), final=True)
        print(f"sent to {len(recipients) - len(refused)} recipients as {message['Message-ID']}")
        current_context().xcom_push("refused", list(refused))
        current_context().xcom_push("message_id", str(message["Message-ID"]))
        return len(recipients) - len(refused)


def _is_address(text: str) -> bool:
    from email.utils import parseaddr

    return re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", parseaddr(text)[1]) is not None


# -- the message ---------------------------------------------------------------------------------------------------


def _message(config: Mapping[str, Any], context: PluginContext) -> tuple[Any, list[str], Mapping[bytes, str]]:
    """Return the message, the addresses of all its recipients, and the files to attach. Raises TaskFailed.

    The content of an attached file is a marker, by which the file is found again when the message is sent.
    """
    from email.message import EmailMessage
    from email.utils import getaddresses, localtime, parseaddr

    from lightflow.plugins.notify_task import default_text

    message = EmailMessage()
    values = {key: _list(config[key]) for key in ("from", "to", "cc", "reply_to") if key in config}
    values["subject"] = [str(config.get("subject") or default_text().replace("\n", " "))[:500]]
    try:
        for key in _HEADERS:
            if key in values:
                message[key.replace("_", "-").title()] = ", ".join(values[key])
    except ValueError as error:
        raise TaskFailed(f"mail: a header cannot be used: {error}", codes=("mail:header",), final=True) from None
    sender = parseaddr(values["from"][0])[1]
    message["Date"] = localtime()
    message["Message-ID"] = f"<{context.key or os.urandom(10).hex()}@{sender.rpartition('@')[2] or 'lightflow'}>"
    text = config.get("text")
    message.set_content(str(text if text is not None else "" if "html" in config else default_text()))
    if "html" in config:
        message.add_alternative(str(config["html"]), subtype="html")
    attachments: dict[bytes, str] = {}
    for path in _attached(_list(config.get("attach", []))):
        import mimetypes

        main, _, sub = (mimetypes.guess_type(path)[0] or "application/octet-stream").partition("/")
        marker = os.urandom(_MARKER_BYTES)
        attachments[marker] = path
        message.add_attachment(marker, maintype=main, subtype=sub, filename=os.path.basename(path))
    everyone = [address for key in ("to", "cc", "bcc") for address in _list(config.get(key, []))]
    recipients = list(dict.fromkeys(address for _, address in getaddresses(everyone) if address))
    if not recipients or not sender:
        raise TaskFailed("mail: there is no sender, or no recipient", codes=("mail:address",), final=True)
    return message, recipients, attachments


def _content(message: Any, attachments: Mapping[bytes, str]) -> Iterator[bytes]:
    """Yield the message in pieces of whole lines, with the files in place of their markers."""
    import base64
    from email.policy import SMTP

    rest = bytes(message.as_bytes(policy=SMTP))
    for marker, path in attachments.items():
        before, _, rest = rest.partition(base64.b64encode(marker) + b"\r\n")
        yield before
        with open(path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                yield base64.encodebytes(block).replace(b"\n", b"\r\n")
    yield rest


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(item) for item in value]


def _attached(patterns: Sequence[str]) -> list[str]:
    """Return the files that patterns name. Raises TaskFailed where there are none, or they are too large."""
    import glob

    paths: list[str] = []
    for pattern in patterns:
        matches = sorted(path for path in glob.glob(pattern) if os.path.isfile(path))
        if not matches:
            raise TaskFailed(f"mail: no file to attach: {pattern}", codes=("mail:file",), final=True)
        paths += matches
    size = sum(map(os.path.getsize, paths))
    if size > _MAX_ATTACHED:
        text = f"mail: the files to attach have {size:,} bytes, more than {_MAX_ATTACHED:,}"
        raise TaskFailed(text, codes=("mail:too_large",), final=True)
    return paths


# -- the server ----------------------------------------------------------------------------------------------------


class _Step:
    """How far the exchange with the server has come."""

    def __init__(self) -> None:
        self.name = "connect"


@contextmanager
def _failures(config: Mapping[str, Any]) -> Iterator[_Step]:
    """Turn errors of the library into failures with codes: 4xx is tried again, 5xx is final."""
    import smtplib
    import ssl

    step, host = _Step(), _shown(str(config["server"]))

    def failure(text: str, code: str, *, final: bool) -> TaskFailed:
        return TaskFailed(f"mail through {host}: {text}", codes=(code,), final=final)

    try:
        yield step
    except smtplib.SMTPRecipientsRefused as error:
        answers = {address: _answer(reply) for address, reply in error.recipients.items()}
        final = all(code >= 500 for code, _ in error.recipients.values())
        reasons = "; ".join(f"{address}: {answer}" for address, answer in answers.items())
        raise failure(f"all recipients are refused: {reasons}", "mail:refused", final=final) from None
    except smtplib.SMTPResponseException as error:
        text = f"{step.name}: {_answer((error.smtp_code, error.smtp_error))}"
        raise failure(text, f"smtp:{error.smtp_code}", final=error.smtp_code >= 500) from None
    except ssl.SSLError as error:
        raise failure(f"TLS: {error}", "mail:tls", final=True) from None
    except SystemExit:  # the attempt is being ended
        if step.name == "data":
            print("the message was being sent; whether it has arrived is unknown", flush=True)
        raise
    except (smtplib.SMTPException, OSError) as error:
        if step.name == "data":
            text = f"the connection broke while the message was sent, so it may have arrived: {error}"
            raise failure(text, "mail:unknown", final=True) from None
        raise failure(f"{step.name}: {error or type(error).__name__}", "mail:connect", final=False) from None


def _answer(reply: tuple[int, bytes | str]) -> str:
    code, text = reply
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"


def _shown(server: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(server).netloc.rpartition("@")[2]


@contextmanager
def _connected(config: Mapping[str, Any], step: _Step) -> Iterator[Any]:
    """Give a client that is connected, encrypted and authorized."""
    import smtplib
    import ssl
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(str(config["server"]))
    host, encrypted = parts.hostname or "", parts.scheme == "smtps"
    if parts.scheme not in ("smtp", "smtps") or not host:
        raise TaskFailed("mail: `server` must be a URL such as smtp://mail.example.org", final=True)
    if "password" in config and not encrypted and config.get("tls") == "none":
        raise TaskFailed("mail: a password needs an encrypted connection", codes=("mail:tls",), final=True)
    ca = config.get("ca")
    if ca is not None and not os.path.isfile(ca):
        raise TaskFailed(f"mail through {_shown(str(config['server']))}: ca: there is no file {ca}", final=True)
    context = ssl.create_default_context(cafile=ca)
    if encrypted:
        client: Any = smtplib.SMTP_SSL(host, parts.port or 465, timeout=_SOCKET_S, context=context)
    else:
        client = smtplib.SMTP(host, parts.port or 587, timeout=_SOCKET_S)
    try:
        client.ehlo_or_helo_if_needed()
        if not encrypted and config.get("tls") != "none":
            step.name = "STARTTLS"
            if not client.has_extn("starttls"):
                text = f"mail through {_shown(str(config['server']))}: the server offers no STARTTLS (see `tls`)"
                raise TaskFailed(text, codes=("mail:tls",), final=True)
            client.starttls(context=context)
            client.ehlo()
        if "password" in config:
            step.name = "login"
            client.login(unquote(parts.username or ""), config["password"])
        yield client
        with suppress(smtplib.SMTPException, OSError):
            client.quit()
    finally:
        client.close()


def _send(
    client: Any, config: Mapping[str, Any], recipients: Sequence[str], content: Iterable[bytes], step: _Step
) -> dict[str, str]:
    """Send the message; return the recipients that the server refuses, with its answers."""
    import smtplib
    from email.utils import parseaddr

    step.name = "sender"
    code, text = client.mail(parseaddr(str(config["from"]))[1])
    if code != 250:
        raise smtplib.SMTPResponseException(code, text)
    step.name = "recipients"
    answers = {address: client.rcpt(address) for address in recipients}
    refused = {address: reply for address, reply in answers.items() if reply[0] not in (250, 251)}
    if len(refused) == len(recipients):
        raise smtplib.SMTPRecipientsRefused(refused)
    step.name = "data"
    code, text = client.docmd("data")
    if code != 354:
        raise smtplib.SMTPDataError(code, text)
    for piece in content:
        client.send(re.sub(rb"(?m)^\.", b"..", piece))  # a line with one point ends the message
    code, text = client.docmd(".")
    if code != 250:
        raise smtplib.SMTPResponseException(code, text)
    return {address: _answer(reply) for address, reply in refused.items()}
