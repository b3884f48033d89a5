"""Git, as far as a promotion needs it: which commit this is, and a commit of one file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mlnb.errors import MlnbError

_DEADLINE = 120
_HISTORY = 1000
"""How many commits of a file are looked at."""


class GitError(MlnbError):
    """Git is in no state to decide in."""

    exit_code = 1


def head(root: Path) -> str:
    """Return the commit that is checked out; empty without git, or before the first commit."""
    return _told(root, "rev-parse", "--verify", "-q", "HEAD") or ""


def changed(root: Path) -> list[str]:
    """Return tracked files that differ from the commit, and a new dvc.lock, relative to ``root``.

    What was changed here cannot be found again by the commit.
    """
    told = _told(root, "status", "--porcelain=v1", "-z", "--no-renames", "-uall", "--", ".") or ""
    prefix = _told(root, "rev-parse", "--show-prefix") or ""
    found = []
    for line in filter(None, told.split("\0")):
        mark, name = line[:2], line[3:].removeprefix(prefix)
        if mark != "??" or Path(name).name in ("dvc.lock", "dvc.yaml", "params.yaml"):
            found.append(name)
    return found


def commit(root: Path, name: str, message: str) -> str:
    """Commit the file ``name`` alone, if the tree allows it; return why not, else ''.

    It leaves alone what is staged, and what is in the midst of a merge or a rebase. Hooks run; one
    that refuses is heard. Nothing is pushed.
    """
    if not head(root):
        return "there is no git repository with a commit"
    if not _told(root, "symbolic-ref", "-q", "HEAD"):
        return "no branch is checked out"
    folder = Path(root, _told(root, "rev-parse", "--git-dir") or ".git")
    for busy in ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply"):
        if (folder / busy).exists():
            return "a merge or a rebase is not finished"
    if _git(root, "diff", "--cached", "--quiet").returncode:
        return "other changes are staged"
    if not _told(root, "status", "--porcelain", "-uall", "--ignored", "--", name):
        return ""
    done = _git(root, "add", "--", name)
    if done.returncode == 0:
        done = _git(root, "commit", "-q", "-m", message, "--", name)
    if done.returncode == 0:
        return ""
    _git(root, "reset", "-q", "--", name)
    said = os.fsdecode(done.stderr or done.stdout).strip().splitlines()
    return f"git refused: {said[0] if said else done.returncode}"


def tag(root: Path, name: str, commit: str, message: str, *, signed: bool) -> str:
    """Make an annotated tag of ``commit``, unless it is there; return why not, else ''."""
    if _told(root, "rev-parse", "-q", "--verify", f"refs/tags/{name}"):
        return ""
    done = _git(root, "tag", "-s" if signed else "-a", "-m", message, name, commit)
    said = os.fsdecode(done.stderr).strip().splitlines()
    return "" if done.returncode == 0 else f"git refused: {said[0] if said else done.returncode}"


def tags(root: Path, pattern: str) -> list[str]:
    """Return the names of the tags that fit a pattern of git."""
    return (_told(root, "tag", "--list", pattern) or "").split()


def versions(root: Path, name: str, *, everywhere: bool = True) -> Iterator[bytes]:
    """Yield the content of the file ``name`` in each commit that changed it, the newest first.

    ``everywhere`` means on all branches; else only what led to the commit that is checked out.
    """
    where = ["--all"] if everywhere else []
    told = _told(root, "log", f"-{_HISTORY}", *where, "--format=%H", "--", name) or ""
    for number in told.split():
        done = _git(root, "show", f"{number}:./{name}")
        if done.returncode == 0:
            yield done.stdout


def _told(root: Path, *words: str) -> str | None:
    """Return what git says; None if it fails, or there is none."""
    try:
        done = _git(root, *words)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout).rstrip("\n") if done.returncode == 0 else None


def _git(root: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", *words],
        cwd=root,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_DEADLINE,
    )
