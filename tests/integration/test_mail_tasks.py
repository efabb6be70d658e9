"""Tasks and hooks of type mail against a real SMTP server."""

from __future__ import annotations

import email
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from flow_folder import lightflow, problems, status, write
from sql_servers import free_port

from lightflow.tasks import mail
from liteflow import Dag
from liteflow.api import History


class Box:
    """What the server has received, and how it answers."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refuse: dict[str, str] = {}
        self.reply = "250 OK"
        self.hangs_up = False

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.hangs_up:
            server.transport.abort()
            return "250 OK"
        message = email.message_from_bytes(envelope.content.replace(b"\r\n", b"\n"), policy=default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        self.recipients.append(envelope.rcpt_tos)
        return self.reply


class Post:
    """A server with its box, its address and the authority of its certificate."""

    def __init__(self, controller: Controller, box: Box, ca: Path, scheme: str) -> None:
        self.box, self.ca, self.port = box, str(ca), controller.port
        self.url = f"{scheme}://me@127.0.0.1:{self.port}"


def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=data.password == b"pass word", handled=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return folder


@pytest.fixture(params=["smtp", "smtps"])
def post(request: pytest.FixtureRequest, certificates: Path) -> Iterator[Post]:
    scheme = getattr(request, "param", "smtp")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem")
    box, options = Box(), {"authenticator": check, "auth_require_tls": scheme == "smtp"}
    tls = {"tls_context": context} if scheme == "smtp" else {"ssl_context": context}
    controller = Controller(box, hostname="127.0.0.1", port=free_port(), **options, **tls)
    controller.start()
    try:
        yield Post(controller, box, certificates / "ca.pem", scheme)
    finally:
        controller.stop()


only_starttls = pytest.mark.parametrize("post", ["smtp"], indirect=True)


def run(folder: Path, post: Post, *, retries: int = 1, **keys: Any) -> tuple[str, tuple[str, ...], int, Any]:
    """Send one mail. Return the reason, the codes, the number of attempts, and the run."""
    values = {"sender": "CI <ci@example.org>", "to": ["a@example.org"], "ca": post.ca, "text": "hello"} | keys
    server = values.pop("server", post.url)
    dag = Dag("mails", str(folder / "state.db"))
    dag.add("send", mail(server, **values), retries=retries)
    result = dag.run(mode="inline", log_dir=str(folder / "logs"))
    with History(str(folder / "state.db")) as history:
        attempts = history.attempts(result.run_id, "send")
    return result.failures().get("send", ""), attempts[-1].codes, len(attempts), result


def test_a_mail_with_everything(post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.csv", "a.csv", "c.txt"):
        Path(name).write_text(name)
    reason, _, _, result = run(
        tmp_path,
        post,
        to=["A <a@example.org>", "b@example.org"],
        cc="c@example.org",
        bcc=["d@example.org"],
        subject="Rows: 3 ü",
        html="<b>hello</b>",
        attach=["*.csv"],
        password="pass word",
    )
    assert reason == ""
    (message,) = post.box.messages
    assert message["Subject"] == "Rows: 3 ü"
    assert (message["To"], message["Cc"], message["Bcc"]) == ("A <a@example.org>, b@example.org", "c@example.org", None)
    assert post.box.recipients == [["a@example.org", "b@example.org", "c@example.org", "d@example.org"]]
    body, html = message.get_body(("plain",)), message.get_body(("html",))
    assert body is not None
    assert html is not None
    assert (body.get_content(), html.get_content()) == ("hello\n", "<b>hello</b>\n")
    files = [(part.get_filename(), part.get_content()) for part in message.iter_attachments()]
    assert files == [("a.csv", "a.csv"), ("b.csv", "b.csv")]
    assert result.value("send") == 4
    assert result.value("send", "message_id") == message["Message-ID"]


@only_starttls
def test_all_attempts_have_the_same_id(post: Post, tmp_path: Path) -> None:
    post.box.reply = "451 try later"
    reason, codes, attempts, _ = run(tmp_path, post)
    assert (codes, attempts) == (("smtp:451",), 2)
    assert "data: 451 try later" in reason
    first, second = (message["Message-ID"] for message in post.box.messages)
    assert first == second
    assert first.endswith("@example.org>")


@only_starttls
@pytest.mark.parametrize(
    ("refuse", "reply", "hangs_up", "codes", "attempts"),
    [
        ({"a@example.org": "550 no such user"}, "250 OK", False, ("mail:refused",), 1),
        ({"a@example.org": "450 busy"}, "250 OK", False, ("mail:refused",), 2),
        ({}, "552 too large", False, ("smtp:552",), 1),
        ({}, "250 OK", True, ("mail:unknown",), 1),
    ],
)
def test_failures(
    post: Post,
    tmp_path: Path,
    refuse: dict[str, str],
    reply: str,
    hangs_up: bool,
    codes: tuple[str, ...],
    attempts: int,
) -> None:
    post.box.refuse, post.box.reply, post.box.hangs_up = refuse, reply, hangs_up
    reason, found, number, _ = run(tmp_path, post)
    assert (found, number) == (codes, attempts), reason
    assert reason.startswith(f"mail through 127.0.0.1:{post.port}: ")


@only_starttls
def test_some_refused_recipients_are_a_warning_or_a_failure(post: Post, tmp_path: Path) -> None:
    post.box.refuse = {"b@example.org": "550 no such user"}
    to = ["a@example.org", "b@example.org"]
    reason, _, _, result = run(tmp_path, post, to=to)
    assert reason == ""
    assert (result.value("send"), result.value("send", "refused")) == (1, ["b@example.org"])
    reason, codes, attempts, _ = run(tmp_path, post, to=to, strict=True)
    assert (codes, attempts) == (("mail:refused",), 1)
    assert "refused: b@example.org" in reason


@only_starttls
def test_a_connection_is_encrypted_and_checked(post: Post, tmp_path: Path) -> None:
    reason, codes, attempts, _ = run(tmp_path, post, ca=None)
    assert (codes, attempts) == (("mail:tls",), 1)
    assert "certificate verify failed" in reason
    reason, codes, _, _ = run(tmp_path, post, password="wrong")
    assert codes == ("smtp:535",)
    assert "wrong" not in reason
    assert run(tmp_path, post, tls="none")[0] == ""


@only_starttls
def test_a_server_that_is_not_there(post: Post, tmp_path: Path) -> None:
    reason, codes, attempts, _ = run(tmp_path, post, server=f"smtp://127.0.0.1:{free_port()}")
    assert (codes, attempts) == (("mail:connect",), 2)
    assert "Connection refused" in reason


@only_starttls
def test_a_header_cannot_get_a_line_break(post: Post, tmp_path: Path) -> None:
    assert run(tmp_path, post, subject="a\nBcc: x@example.org")[1] == ("mail:header",)
    assert run(tmp_path, post, attach=["missing*"])[1] == ("mail:file",)
    assert post.box.messages == []


@only_starttls
def test_a_hook_sends_a_mail_about_its_event(post: Post, tmp_path: Path) -> None:
    write(
        tmp_path,
        f"""
        secrets: [MAIL]
        on_failure:
          type: mail
          server: {post.url}
          password: ${{{{ secrets.MAIL }}}}
          ca: {post.ca}
          from: ci@example.org
          to: team@example.org
          subject: ${{{{ workflow.name }}}} ${{{{ hook.status }}}}
        tasks: {{bad: {{run: exit 3}}}}
        """,
    )
    assert lightflow(tmp_path, "run", "flow.yaml", extra_env={"MAIL": "pass word"}).returncode == 1
    (message,) = post.box.messages
    run_id = status(tmp_path)["run_id"]
    assert message["Subject"] == "flow FAILED"
    assert message.get_content() == f"flow ({run_id}): FAILED: failed: bad\n"
    assert all(b"pass word" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("server: mail.example.org, from: a@b, to: c@d", "must be a URL such as smtp://user@mail.example.org:587"),
        ("server: 'smtp://u:p@h', from: a@b, to: c@d", "a password in clear text"),
        ("server: 'smtp://u@h', from: a@b, to: c@d, password: abc", "a secret in clear text"),
        ("server: 'smtp://u@h', from: a@b, to: c@d, tls: none, password: '${{ params.x }}'", "a password needs an"),
        ("server: 'smtp://h', from: a@b, to: c@d, password: '${{ params.x }}'", "needs the user of the password"),
        ("server: 'smtp://h', from: nobody, to: c@d", "'nobody' is not an address"),
        ("server: 'smtp://h', from: a@b, to: [c@d, e]", "'e' is not an address"),
        ("server: 'smtp://h', from: a@b", 'needs "to"'),
    ],
)
def test_mistakes(keys: str, message: str) -> None:
    assert message in problems(f"tasks: {{a: {{type: mail, {keys}}}}}\nparams: {{x: y}}")


@only_starttls
def test_points_and_binary_files_arrive_as_they_are(
    post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = bytes(range(256)) * 1000 + b"."
    Path("data.bin").write_bytes(content)
    Path("empty.bin").touch()
    reason, _, _, _ = run(tmp_path, post, text="first\n.\n..two\n.three", attach=["*.bin"])
    assert reason == ""
    (message,) = post.box.messages
    body = message.get_body(("plain",))
    assert body is not None
    assert body.get_content() == "first\n.\n..two\n.three\n"
    assert [part.get_content() for part in message.iter_attachments()] == [content, b""]
