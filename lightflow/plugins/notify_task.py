"""Tasks and hooks that send a short message to a chat or a phone: `type: notify`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from lightflow.plugins.base import PluginContext, TaskType
from liteflow import current_context

_MAX_CHARACTERS: Final = 3000
_LONGEST_WAIT_S: Final = 60.0
_PRIORITIES: Final = ["min", "low", "default", "high", "max"]


def _address(description: str) -> dict[str, Any]:
    """Return the schema of a secret that gives access to a service: a URL or a token."""
    return {"description": description, "type": "string", "minLength": 1, "x-secret": True, "x-expressions": "text"}


class NotifyTask(TaskType):
    """Posts one message; a hook that cannot post it changes nothing for the run."""

    name = "notify"
    needs = ("urllib3",)
    extra = "lightflow-workflows[http]"
    timeout_s = 60.0
    hook_timeout_s = 20.0
    hook_retries = 1
    schema: ClassVar[Mapping[str, Any]] = {
        "description": "Sends a message to Slack, to ntfy, or to a webhook. It suits hooks of the workflow, which "
        "run once for each run.",
        "properties": {
            "slack": {**_address("The URL of an incoming webhook of Slack."), "examples": ["${{ secrets.SLACK_URL }}"]},
            "ntfy": {
                "description": "A topic of ntfy.",
                "type": "object",
                "properties": {
                    "topic": {"description": "The topic.", "type": "string", "minLength": 1},
                    "server": {
                        "description": "The server.",
                        "type": "string",
                        "pattern": r"^https?://.|\$\{\{",
                        "default": "https://ntfy.sh",
                        "x-expects": "a URL such as https://ntfy.example.org",
                    },
                    "priority": {"description": "How urgent it is.", "enum": _PRIORITIES, "default": "default"},
                    "title": {"description": "The title.", "type": "string"},
                    "token": _address("An access token."),
                },
                "required": ["topic"],
                "additionalProperties": False,
                "examples": [{"topic": "backups"}],
            },
            "webhook": {
                "description": "A URL that takes JSON by POST: by default the text and the event.",
                "type": "object",
                "properties": {
                    "url": _address("The URL."),
                    "json": {"description": "The JSON in place of the text and the event."},
                },
                "required": ["url"],
                "additionalProperties": False,
                "examples": [{"url": "${{ secrets.HOOK_URL }}"}],
            },
            "text": {
                "description": "The message, cut after 3,000 characters. By default it names the workflow, the run and "
                "what has happened.",
                "type": "string",
                "minLength": 1,
                "examples": ["${{ workflow.name }}: ${{ hook.error }}"],
            },
            "mentions": {
                "description": "Whether `<!channel>` and other markup of Slack in the text has an effect.",
                "type": "boolean",
                "default": False,
                "x-expressions": "none",
            },
        },
        "x-answers": {
            "to channel recipient target service": "write `slack: ${{ secrets.SLACK_URL }}`, `ntfy` or `webhook`",
            "url": "write `slack`, or `webhook: {url: …}`",
            "message body content msg": "text",
        },
        "oneOf": [{"required": ["slack"]}, {"required": ["ntfy"]}, {"required": ["webhook"]}],
        "x-message": 'needs exactly one of "slack", "ntfy" and "webhook"',
    }

    def summary(self, config: Mapping[str, Any]) -> str:
        service = next((name for name in ("slack", "ntfy", "webhook") if name in config), "")
        return f"message to {service}"

    def run(self, config: Mapping[str, Any], context: PluginContext) -> None:
        text = str(config.get("text") or default_text())
        text = text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"
        if "slack" in config:
            shown = text if config.get("mentions") else _without_markup(text)
            _post("slack", config["slack"], {"text": shown}, context)
        elif "ntfy" in config:
            topic = config["ntfy"]
            content = {"topic": topic["topic"], "message": text}
            content |= {"title": topic["title"]} if "title" in topic else {}
            if "priority" in topic:
                content["priority"] = _PRIORITIES.index(topic["priority"]) + 1
            _post("ntfy", topic.get("server", "https://ntfy.sh"), content, context, topic.get("token"))
        else:
            webhook = config["webhook"]
            _post("webhook", webhook["url"], webhook["json"] if "json" in webhook else _event(text), context)


def default_text() -> str:
    """Return the message about the event of a hook, or about a task that runs."""
    context = current_context()
    place = f"{context.dag_id} ({context.run_id})"
    event = context.hook
    if event is None:
        return f"{place}: task {context.task_id} runs"
    name = f"{event.task_id}[{event.map_index}]" if event.map_index >= 0 else event.task_id
    error = f": {event.error}" if event.error else ""
    return f"{place}: {f'task {name} ' if name else ''}{event.status}{error}"


def _event(text: str) -> dict[str, Any]:
    context, event = current_context(), current_context().hook
    facts: dict[str, Any] = {"text": text, "workflow": context.dag_id, "run_id": context.run_id}
    if event is not None:
        facts |= {"event": event.event, "task": event.task_id or None, "status": event.status, "error": event.error}
    return facts


def _without_markup(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@contextmanager
def _noting_its_end(service: str) -> Iterator[None]:
    """Note in the log that the attempt is being ended while a message is sent."""
    try:
        yield
    except SystemExit:
        print(f"{service}: whether the message has arrived is unknown", flush=True)
        raise


def _post(service: str, url: str, content: Any, context: PluginContext, token: str | None = None) -> None:
    """Post JSON. A message that may have arrived is sent again: twice is better than never. Raises TaskFailed."""
    from lightflow.plugins.http_client import HttpRequest, exchange, failed, retry_after_s

    data = json.dumps(content, default=str).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = HttpRequest(
        method="POST",
        url=url,
        label=service,
        headers=headers,
        body=lambda: data,
        size=len(data),
        is_repeatable=True,
        redirects=0,
        deadline=context.deadline,
    )
    with _noting_its_end(service), exchange(request) as reply:
        if 200 <= reply.status < 300:
            print(f"{service}: sent")
            return
        answer = b"".join(chunk for chunk, _ in zip(reply.content(), range(4), strict=False))[:300]
        wait = retry_after_s(reply.headers)
        raise failed(
            request,
            url,
            f"{reply.status} {reply.reason}: {answer.decode('utf-8', 'replace')}",
            str(reply.status),
            final=reply.status < 500 and reply.status not in (408, 429),
            retry_after_s=None if wait is None else min(wait, _LONGEST_WAIT_S),
        )
