"""Events: each hook is told of each change at least once, in order, and nobody waits for it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import notebooks
from mlnb import events
from mlnb.errors import MlnbError
from mlnb.events import Event, EventError, Hook
from mlnb.project import find

EVENT = Event(
    id="e5",
    number=5,
    kind="promote",
    project="rand",
    environment="production",
    version=3,
    previous=2,
    bundle="sha256:" + "0" * 64,
    who="ada",
    reason="better",
    verdict="sha256:" + "1" * 64,
    at="2026-11-01T12:00:00+00:00",
)
NEXT = dataclasses.replace(EVENT, id="e6", number=6, kind="rollback", version=2, previous=3)
AT_ONCE = (0.0,)


@dataclasses.dataclass
class Receiver:
    """A server that keeps what it is sent, and answers as it is told, then with 200."""

    address: str
    answers: list[int] = dataclasses.field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = dataclasses.field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            code = made.answers.pop(0) if made.answers else 200
            self.send_response(code)
            if code == 302:
                self.send_header("Location", f"{made.address}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - what a redirect would become

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def keeper(path: Path, code: int = 0) -> str:
    """Return a command that appends what it is told to ``path``."""
    program = path.with_suffix(".py")
    program.write_text(
        f"import sys\nopen({str(path)!r}, 'a').write(sys.stdin.read() + '\\n')\n"
        f"print('no room', file=sys.stderr) if {code} else None\nsys.exit({code})\n"
    )
    return f"{sys.executable} {program}"


# --- Telling -----------------------------------------------------------------------------------


def test_a_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the event as JSON, in the project's root, without our token."""
    program = tmp_path / "hook.py"
    program.write_text(
        "import json, os, sys\n"
        "told = json.load(sys.stdin) | {'token': os.environ.get('MLNB_TOKEN')}\n"
        "json.dump(told, open('told.json', 'w'))\n"
    )
    monkeypatch.setenv("MLNB_TOKEN", "mlnb_secret")
    Hook("log", "command", f"{sys.executable} {program}").tell(EVENT, root=tmp_path)
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["token"] is None
    assert told["words"] == "rand: ada promoted version 3 to production: better"
    assert {key: told[key] for key in dataclasses.asdict(EVENT)} == dataclasses.asdict(EVENT)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit('no room')", "ended with 1: no room"),
        ("import signal; signal.pause()", "took longer than 0.5 s"),
    ],
)
def test_a_command_that_fails_says_why(program: str, message: str, tmp_path: Path) -> None:
    """A failure and a hang are both told, a hang after the hook's own time."""
    hook = Hook("log", "command", f'{sys.executable} -c "{program}"', timeout=0.5)
    with pytest.raises(EventError, match=message):
        hook.tell(EVENT, root=tmp_path)
    with pytest.raises(EventError, match="cannot be run"):
        Hook("log", "command", "no-such-program").tell(EVENT, root=tmp_path)


@pytest.mark.parametrize("secret", ["tell nobody", "whsec_" + base64.b64encode(b"k" * 24).decode()])
def test_a_webhook_is_signed(
    secret: str, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver can compute the same signature from id, time and body, and the secret."""
    monkeypatch.setenv("HOOK_SECRET", secret)
    Hook("web", "webhook", receiver.address, secret="HOOK_SECRET").tell(EVENT, root=tmp_path)
    ((headers, body),) = receiver.got
    assert json.loads(body)["version"] == 3
    key = b"k" * 24 if secret.startswith("whsec_") else secret.encode()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-id"] == "e5"
    assert headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize("code", [302, 404, 503])
def test_a_webhook_that_is_not_taken(code: int, receiver: Receiver, tmp_path: Path) -> None:
    """Any answer but success is a failure; a redirection is not followed."""
    receiver.answers = [code]
    with pytest.raises(EventError, match=f"event hook web: answered {code}"):
        Hook("web", "webhook", receiver.address).tell(EVENT, root=tmp_path)
    assert len(receiver.got) == 1


def test_what_a_webhook_lacks_is_told_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server, no address, no secret: each is named, and nothing of the address is printed."""
    with pytest.raises(EventError, match="cannot be reached") as caught:
        Hook("web", "webhook", "http://127.0.0.1:9/hidden").tell(EVENT, root=tmp_path)
    assert "hidden" not in str(caught.value)
    monkeypatch.setenv("HOOK_URL", "file:///etc/hostname")
    for hook, message in (
        (Hook("web", "webhook", "http://127.0.0.1:9", secret="NO_SECRET"), "NO_SECRET is not set"),
        (Hook("web", "webhook", "$NO_URL"), "NO_URL is not set"),
        (Hook("web", "webhook", "$HOOK_URL"), "neither https:// nor http://"),
    ):
        with pytest.raises(EventError, match=message):
            hook.tell(EVENT, root=tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_apprise_is_told(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address of apprise gets the sentence; a failure and an unknown address are failures."""
    pytest.importorskip("apprise")
    monkeypatch.setenv("CHAT", receiver.address.replace("http://", "json://"))
    Hook("chat", "apprise", "$CHAT").tell(EVENT, root=tmp_path)
    ((_, body),) = receiver.got
    assert EVENT.words in json.loads(body)["message"]
    receiver.answers = [500]
    with pytest.raises(EventError, match="was not delivered"):
        Hook("chat", "apprise", "$CHAT").tell(EVENT, root=tmp_path)
    with pytest.raises(EventError, match="none that apprise knows"):
        Hook("chat", "apprise", "nonsense").tell(EVENT, root=tmp_path)


# --- The outbox --------------------------------------------------------------------------------


def told(path: Path) -> list[str]:
    """Return the ids of what a keeper was told."""
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_each_event_is_told_once_to_each_hook(tmp_path: Path) -> None:
    """In order, only what the hook asks for, and nothing again after it was taken."""
    box = tmp_path / "outbox"
    both = Hook("both", "command", keeper(tmp_path / "both.log"))
    back = Hook("back", "command", keeper(tmp_path / "back.log"), on=("rollback",))
    for event in (NEXT, EVENT, EVENT):
        events.post(box, [both, back], event)
    assert [(f.hook, f.event.id) for f in events.waiting(box)] == [
        ("both", "e5"),
        ("back", "e6"),
        ("both", "e6"),
    ]
    for _ in range(2):
        assert events.deliver(box, [both, back], root=tmp_path, pauses=AT_ONCE) == []
    assert told(tmp_path / "both.log") == ["e5", "e6"]
    assert told(tmp_path / "back.log") == ["e6"]


def test_a_hook_that_fails_is_tried_again(receiver: Receiver, tmp_path: Path) -> None:
    """Two failures, then success within one delivery; the later event waits for the earlier."""
    box, web = tmp_path / "outbox", Hook("web", "webhook", receiver.address)
    receiver.answers = [503, 503]
    for event in (EVENT, NEXT):
        events.post(box, [web], event)
    assert events.deliver(box, [web], root=tmp_path, pauses=(0, 0, 0)) == []
    assert [headers["webhook-id"] for headers, _ in receiver.got] == ["e5", "e5", "e5", "e6"]


def test_what_is_not_taken_stays(receiver: Receiver, tmp_path: Path) -> None:
    """It is returned with the reason, kept for the next delivery, and holds up no other hook."""
    box = tmp_path / "outbox"
    web = Hook("web", "webhook", receiver.address)
    log = Hook("log", "command", keeper(tmp_path / "log.log"))
    receiver.answers = [500]
    for event in (EVENT, NEXT):
        events.post(box, [web, log], event)
    left = events.deliver(box, [web, log], root=tmp_path, pauses=AT_ONCE)
    assert [(f.hook, f.event.id, f.why) for f in left] == [
        ("web", "e5", "answered 500"),
        ("web", "e6", "answered 500"),
    ]
    assert len(receiver.got) == 1
    assert told(tmp_path / "log.log") == ["e5", "e6"]
    assert events.deliver(box, [web, log], root=tmp_path, pauses=AT_ONCE) == []
    assert [headers["webhook-id"] for headers, _ in receiver.got] == ["e5", "e5", "e6"]


def test_what_is_put_there_meanwhile_is_told_too(tmp_path: Path) -> None:
    """An event that arrives while others are told is not left behind."""
    box, log = tmp_path / "outbox", tmp_path / "log.log"
    more = {"format": 1, "hook": "log", "event": dataclasses.asdict(NEXT)}
    (tmp_path / "more.json").write_text(json.dumps(more))
    program = tmp_path / "hook.py"
    program.write_text(
        "import os, pathlib, sys\n"
        f"open({str(log)!r}, 'a').write(sys.stdin.read() + '\\n')\n"
        "later = pathlib.Path('more.json')\n"
        "later.exists() and os.rename(later, 'outbox/0000000006-log.json')\n"
    )
    hook = Hook("log", "command", f"{sys.executable} {program}")
    events.post(box, [hook], EVENT)
    assert events.deliver(box, [hook], root=tmp_path, pauses=AT_ONCE) == []
    assert told(log) == ["e5", "e6"]


def test_one_delivers_at_a_time(tmp_path: Path) -> None:
    """A second delivery leaves it to the first, and says what waits."""
    box = tmp_path / "outbox"
    inner = Hook("log", "command", keeper(tmp_path / "log.log"))
    events.post(box, [inner], EVENT)
    with events.outbox._alone(box) as alone:
        assert alone
        left = events.deliver(box, [inner], root=tmp_path, pauses=AT_ONCE)
    assert [failure.why for failure in left] == ["is not told yet"]
    assert not (tmp_path / "log.log").exists()


def test_what_nobody_wants_any_more_is_dropped(tmp_path: Path) -> None:
    """An event of a hook that was removed, or of another format, goes away."""
    box = tmp_path / "outbox"
    events.post(box, [Hook("gone", "command", "true")], EVENT)
    (box / "0000000001-log.json").write_text('{"format": 9}')
    (box / "0000000002-log.json").write_text("{")
    assert events.deliver(box, [], root=tmp_path, pauses=AT_ONCE) == []
    assert not list(box.glob("*.json"))


# --- Setting up --------------------------------------------------------------------------------


def test_hooks_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table is a hook with its way, kinds and time."""
    root = notebooks.project(tmp_path, dvc="stages: {}\n")
    (root / "pyproject.toml").write_text(
        "[tool.mlnb.events]\n"
        'log = { command = "cat" }\n'
        'web = { webhook = "$URL", secret = "KEY", on = ["rollback"], timeout = 5 }\n'
    )
    assert events.hooks(find(root)) == (
        Hook("log", "command", "cat"),
        Hook("web", "webhook", "$URL", "KEY", ("rollback",), 5),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('log = "cat"', "must be a table"),
        ('"../log" = { command = "cat" }', "under a plain name"),
        ('log = { comand = "cat" }', "Did you mean 'command'"),
        ("log = { timeout = 3 }", "needs one of command, webhook, apprise"),
        ('log = { command = "cat", webhook = "http://x" }', "needs one of"),
        ('log = { command = " " }', "are texts"),
        ('log = { command = "cat", secret = "KEY" }', "secret is of a webhook"),
        ('log = { webhook = "http://x", secret = "s3cr3t!" }', "names a variable"),
        ('log = { webhook = "file:///x" }', "https:// or http://"),
        ('log = { command = "cat", on = ["promotion"] }', "on is a list of promote"),
        ('log = { command = "cat", timeout = 0 }', "timeout is some seconds"),
    ],
)
def test_wrong_hooks_are_errors(text: str, message: str, tmp_path: Path) -> None:
    """Each is named with its table, before anything is promoted."""
    root = notebooks.project(tmp_path, dvc="stages: {}\n")
    (root / "pyproject.toml").write_text(f"[tool.mlnb.events]\n{text}\n")
    with pytest.raises(MlnbError, match=message):
        events.hooks(find(root))


def test_without_the_extra_its_install_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where apprise is not installed, setting it up says how to."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    root = notebooks.project(tmp_path, dvc="stages: {}\n")
    (root / "pyproject.toml").write_text('[tool.mlnb.events]\nchat = { apprise = "$CHAT" }\n')
    with pytest.raises(EventError, match=r"pip install 'mlnb\[notify\]'"):
        events.hooks(find(root))
