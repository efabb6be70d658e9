"""Webhooks: `POST /hooks/WORKFLOW/NAME` fires a trigger for a sender that knows its secret.

A sender has no token of the server. It proves itself by a signature over the body, which is compared in constant time,
and each delivery starts one run, however often it is sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import re
import secrets
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from lightflow.errors import LightflowError
from lightflow.scheduler.overview import find_triggers, request_key
from lightflow.server.actions import started_answer
from lightflow.server.answers import StartedAnswer
from lightflow.server.gate import Headers, values
from lightflow.server.problems import RequestProblem
from lightflow.server.routing import Answer
from lightflow.server.services import Control, StartedRun
from liteflow import LiteflowError, RunNotFound, WebhookTrigger
from liteflow.api import TriggerRecord, find_fire

PREFIX: Final = "/hooks/"
_PATH: Final = re.compile(r"/hooks/([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})/(webhook(?::[0-9]{1,3})?)\Z")
_TOLERANCE_S: Final = 300.0  # between the clock of a sender and this one
_MOST_WRONG: Final = 20  # wrong signatures of a trigger within `_WRONG_S`
_WRONG_S: Final = 600.0
_BODIES_S: Final = 30 * 86_400.0  # how long the body of a delivery is preserved
_NO_WEBHOOK: Final = "there is no such webhook"
_SECRET_S: Final = 60.0  # so long a secret that was read is used
_FAILED_S: Final = 5.0  # so long a secret that could not be read is not read again
_GITHUB: Final = re.compile(r"sha256=[0-9a-f]{64}\Z")
_SIGNED: Final = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})\Z")
_log = logging.getLogger("lightflow.server")


class Signature(NamedTuple):
    """The proof of a sender that it knows the secret."""

    sent: str
    signed: bytes | None  #: what comes before the body in the signed text; None: it is the secret itself
    prefix: str  #: of the signature
    delivery_id: str | None  #: None: the body identifies the delivery

    def expected(self, key: bytes, body: bytes) -> str:
        """Return what a sender that knows the secret sends."""
        if self.signed is None:
            return key.decode()
        return self.prefix + hmac.new(key, self.signed + body, hashlib.sha256).hexdigest()


class Delivery(NamedTuple):
    """A request whose signature is right."""

    trigger_id: str
    delivery_id: str
    body: bytes


class SecretFailure(NamedTuple):
    """Why a secret could not be read."""

    text: str
    at: float  # monotonic


class Webhooks:
    """Receives the deliveries of one server. For any thread."""

    def __init__(self, db: str, control: Control, *, hides_values: bool = False) -> None:
        self._db = db
        self._control = control
        self._hides_values = hides_values
        self._lock = threading.Lock()
        self._wrong: dict[str, deque[float]] = defaultdict(deque)  # the times of wrong signatures, by trigger
        self._failures: dict[str, SecretFailure] = {}  # by trigger

    def receive(self, path: str, headers: Headers, body: bytes) -> Answer[StartedAnswer]:
        """Check a request and fire its trigger: 202 with the fire, or 200 when the delivery was received before.

        Raises:
            RequestProblem: there is no such webhook, the signature is wrong, or it is paused.
        """
        match = _PATH.match(path)
        row = None if match is None else self._row(f"{match[1]}:{match[2]}")
        if row is None or not isinstance(trigger := row.trigger, WebhookTrigger):
            raise RequestProblem(404, "NOT_FOUND", _NO_WEBHOOK)
        trigger_id = row.trigger_id
        text = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        signature = _signature(trigger.scheme, text)
        delivery_id = None if signature is None else self._verified(trigger_id, trigger, signature, body)
        if delivery_id is None:
            self._count_wrong(trigger_id)
            raise RequestProblem(401, "UNAUTHENTICATED", "the signature is missing or wrong")
        if row.paused_at is not None:  # only a sender that knows the secret learns it
            raise RequestProblem(409, "CONFLICT", "the webhook is paused")
        media = (values(headers, b"content-type") or [b""])[0].partition(b";")[0].strip().lower()
        if media != b"application/json" and not media.startswith(b"text/"):
            raise RequestProblem(415, "BAD_INPUT", "send the body as application/json or as text")
        return self._fire(Delivery(trigger_id, delivery_id, body), trigger)

    def _row(self, trigger_id: str) -> TriggerRecord | None:
        try:
            (row,) = find_triggers(self._db, trigger_id)
            return row if isinstance(row.trigger, WebhookTrigger) else None
        except (RunNotFound, ValueError):
            return None

    def _wrong_times(self, trigger_id: str) -> deque[float]:
        """Return the times of wrong signatures that still count, the oldest first. The lock is held."""
        times = self._wrong[trigger_id]
        while times and times[0] < time.monotonic() - _WRONG_S:
            times.popleft()
        return times

    def _has_many_wrong(self, trigger_id: str) -> bool:
        """Return whether a webhook has had so many wrong signatures that the next wrong ones are refused at once."""
        with self._lock:
            return len(self._wrong_times(trigger_id)) >= _MOST_WRONG

    def _count_wrong(self, trigger_id: str) -> None:
        """Count a wrong signature. Raises RequestProblem when there are too many; right ones are not slowed down."""
        with self._lock:
            times = self._wrong_times(trigger_id)
            if len(times) >= _MOST_WRONG:
                wait_s = int(times[0] + _WRONG_S - time.monotonic()) + 1
                detail = "too many requests with a wrong signature"
                raise RequestProblem(429, "TOO_MANY", detail, headers={"Retry-After": str(wait_s)})
            times.append(time.monotonic())

    def _verified(self, trigger_id: str, trigger: WebhookTrigger, signature: Signature, body: bytes) -> str | None:
        """Return what identifies a delivery whose signature is right; None for a wrong one.

        A secret that was read is used for a while, so that senders cannot have it read with each request. Where a
        signature does not fit, it is read again, because it may have changed; `_MOST_WRONG` bounds that.
        """
        for max_age_s in (_SECRET_S, 0.0):
            if max_age_s == 0.0 and self._has_many_wrong(trigger_id):
                return None
            key = self._key(trigger_id, trigger.secret, max_age_s)
            expected = signature.expected(key, body)
            if hmac.compare_digest(signature.sent.encode("utf-8", "surrogateescape"), expected.encode()):
                return signature.delivery_id or hashlib.sha256(body).hexdigest()
        return None

    def _key(self, trigger_id: str, secret: str, max_age_s: float) -> bytes:
        """Return the secret of a webhook. Why there is none is for the log: the sender has not proved itself."""
        failure = self._failures.get(trigger_id)
        if failure is None or time.monotonic() - failure.at >= _FAILED_S:
            try:
                return self._control.secret(trigger_id.partition(":")[0], secret, max_age_s=max_age_s).encode()
            except RunNotFound:
                raise RequestProblem(404, "NOT_FOUND", _NO_WEBHOOK) from None
            except (LightflowError, LiteflowError) as error:
                self._failures[trigger_id] = SecretFailure(str(error), time.monotonic())
                if failure is None or failure.text != str(error):  # so that a sender cannot fill the log
                    _log.warning("webhook %s: %s", trigger_id, error)
        detail = "the secret of the webhook cannot be read; the log of the server has the reason"
        raise RequestProblem(503, "UNAVAILABLE", detail, headers={"Retry-After": f"{_FAILED_S:g}"})

    def _fire(self, delivery: Delivery, trigger: WebhookTrigger) -> Answer[StartedAnswer]:
        key = f"delivery {delivery.delivery_id[:200]}"
        fire = find_fire(self._db, delivery.trigger_id, request_key(key))
        if fire is not None:
            started = StartedRun(run_id=fire.run_id, fire_no=fire.fire_no, status=fire.status, reason=fire.reason)
            return Answer(body=started_answer(started, hides_values=self._hides_values), status=200)
        params = {} if trigger.param is None else {trigger.param: self._store(delivery)}
        started = self._control.fire(delivery.trigger_id, caller="webhook", key=key, params=params)
        return Answer(body=started_answer(started, hides_values=self._hides_values), status=202)

    def _store(self, delivery: Delivery) -> str:
        """Write the body of a delivery to a file of its own, and return its path."""
        folder = f"{os.path.abspath(self._db)}_webhooks"
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - _BODIES_S:
                    os.unlink(entry.path)
        name = hashlib.sha256(f"{delivery.trigger_id} {delivery.delivery_id}".encode()).hexdigest()[:32]
        path = os.path.join(folder, f"{name}.body")
        temporary = f"{path}.{secrets.token_hex(4)}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(delivery.body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        return path


def _signature(scheme: str, headers: Mapping[str, str]) -> Signature | None:
    """Return what a sender sends as the scheme wants it; None where it is missing, has another form, or is too old."""
    match scheme:
        case "github":
            sent = headers.get("x-hub-signature-256", "")
            delivery_id = headers.get("x-github-delivery")
            return Signature(sent, b"", "sha256=", delivery_id) if _GITHUB.match(sent) else None
        case "timestamped":
            match = _SIGNED.match(headers.get("x-webhook-signature", ""))
            if match is None or abs(time.time() - int(match[1])) > _TOLERANCE_S:
                return None
            return Signature(match[2], f"{match[1]}.".encode(), "", f"{match[1]} {match[2]}")
        case _:
            sent = headers.get("x-webhook-token") or headers.get("x-gitlab-token", "")
            delivery_id = headers.get("x-webhook-id") or headers.get("x-gitlab-event-uuid") or secrets.token_hex(16)
            return Signature(sent, None, "", delivery_id) if sent else None
