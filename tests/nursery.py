"""Processes that start at once and can be killed at a chosen system call.

A nursery imports a module once and forks a child for each call of one of its functions. A child
stops itself before it begins, so that strace can take hold of it and several can start together.
Neither costs an interpreter's start: a trial takes some hundredths of a second.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnb.errors import MlnbError

ANY_TRACER = (0x59616D61, -1, 0, 0, 0)
"""Arguments of prctl: who is no ancestor may trace, where the kernel asks (Yama)."""


@dataclass(frozen=True)
class Death:
    """How a child ended: its exit code, or minus the signal; and what it said of an error."""

    code: int
    said: str


class Nursery:
    """A process that forks; a context manager."""

    def __init__(self, module: str, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, __file__, module], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the nursery has died"
        return json.loads(answer)

    def call(self, name: str, *args: str) -> None:
        """Call a function in the nursery itself, so that children find loaded what it loads."""
        self._ask(call=name, args=args)

    def fork(self, name: str, *args: str) -> int:
        """Make a child that will call a function; return its number."""
        number: int = self._ask(fork=name, args=args, said=str(self._folder / "said"))
        return number

    def go(self) -> list[Death]:
        """Let all children begin, wait for them, and return how they ended."""
        return [Death(**death) for death in self._ask(go=True)]

    def traced(self, calls: str, name: str, *args: str, inject: str = "") -> tuple[Death, str]:
        """Return how a child ends, and its system calls out of ``calls``, as strace writes them.

        Not with --seccomp-bpf: strace 6.1 then injects nothing, and says nothing of it.
        """
        strace = shutil.which("strace")
        assert strace, "these tests need strace: apt-get install strace"
        trace = self._folder / "trace"
        what = [f"--trace={calls}", *([f"--inject={inject}"] if inject else [])]
        child = self.fork(name, *args)
        with subprocess.Popen(
            [strace, "-o", str(trace), *what, "-p", str(child)], stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr
            said = process.stderr.readline()
            assert "attached" in said, said
            (death,) = self.go()
            process.communicate()
        return death, trace.read_text()

    def points(self, calls: str, name: str, *args: str) -> list[tuple[str, int]]:
        """Return each system call of a child's whole life: its name, and the how-manieth it is."""
        death, trace = self.traced(calls, name, *args)
        assert death.code == 0, death.said
        counts = collections.Counter(re.findall(r"(?m)^(\w+)\(", trace))
        assert counts.total(), "strace saw nothing"
        return [(call, k) for call, count in counts.items() for k in range(1, count + 1)]


def _child(function: Any, args: list[str], said: str) -> None:
    """Stop, call ``function`` and leave as a command does."""
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    ctypes.CDLL(None).prctl(*ANY_TRACER)
    os.kill(os.getpid(), signal.SIGSTOP)
    code = 0
    try:
        function(*args)
    except MlnbError as error:
        os.write(out, str(error).encode())
        code = error.exit_code
    except BaseException as error:  # noqa: BLE001 - a child must never return into the nursery
        os.write(out, f"Traceback: {error!r}".encode())
        code = 99
    os._exit(code)


def _serve(module: Any) -> None:
    children: dict[int, Path] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any = None
        if "call" in request:
            getattr(module, request["call"])(*request["args"])
        elif "fork" in request:
            said = f"{request['said']}.{len(children)}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(said)
            answer = os.fork()
            if not answer:
                _child(getattr(module, request["fork"]), request["args"], said)
            os.waitpid(answer, os.WUNTRACED)
            children[answer] = Path(said)
        else:
            for child in children:
                os.kill(child, signal.SIGCONT)
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
            said_all = [path.read_text() for path in children.values()]
            answer = [{"code": c, "said": s} for c, s in zip(codes, said_all, strict=True)]
            children.clear()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(importlib.import_module(sys.argv[1]))
