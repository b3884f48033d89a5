"""Files are written whole or not at all, and digests depend on names and bytes only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlnb import files

WRITER = """
import sys
from pathlib import Path
from mlnb.files import write_bytes
while True:
    for letter in (b"a", b"b"):
        write_bytes(Path(sys.argv[1]), letter * 1_000_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """However often a writer is killed, the file is the old one or the new one."""
    path = tmp_path / "file"
    for delay in range(8):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        while not path.exists():
            time.sleep(0.005)
        time.sleep(0.002 * delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert path.read_bytes() in (b"a" * 1_000_000, b"b" * 1_000_000)


def test_a_failed_write_leaves_no_trace(tmp_path: Path) -> None:
    """When the name cannot be taken, the temporary file goes and the error stays."""
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        files.write_text(tmp_path / "taken", "text")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inside", "taken"]


def test_what_cannot_be_written_harms_nothing(tmp_path: Path) -> None:
    """A value that JSON or UTF-8 cannot hold is refused before the old file is touched."""
    path = tmp_path / "a.json"
    files.write_json(path, {"b": 1, "a": "é"})
    for value in (float("nan"), float("inf"), {"x": [float("-inf")]}):
        with pytest.raises(ValueError, match="JSON"):
            files.write_json(path, value)
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "\ud800")
    assert path.read_text() == '{\n  "a": "\\u00e9",\n  "b": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_mode(tmp_path: Path) -> None:
    """A new file has the mode that any new file gets; an existing one keeps its own."""
    files.write_text(tmp_path / "deep" / "new", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "deep" / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "plain").chmod(0o750)
    files.write_text(tmp_path / "plain", "y")
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o750


def test_a_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    """Writing to a link, as DVC's cache makes them, never writes into the cache."""
    (tmp_path / "cache").write_text("old")
    (tmp_path / "file").symlink_to("cache")
    files.write_text(tmp_path / "file", "new")
    assert ((tmp_path / "cache").read_text(), (tmp_path / "file").read_text()) == ("old", "new")


def test_a_long_name(tmp_path: Path) -> None:
    """A name as long as the file system allows can be written."""
    files.write_text(tmp_path / ("é" * 127), "x")
    assert len(list(tmp_path.iterdir())) == 1


def tree(root: Path, **contents: str) -> Path:
    """Write ``contents`` below ``root``, in the order given; ``__`` stands for a slash."""
    for name, text in contents.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_digest_tree(tmp_path: Path) -> None:
    """The order and time of writing and empty folders do not matter; names and bytes do."""
    one = tree(tmp_path / "one", a="1", b__c="2")
    two = tree(tmp_path / "two", b__c="2", a="1")
    os.utime(two / "a", (0, 0))
    (two / "empty").mkdir()
    digest = files.digest_tree(one)
    assert files.digest_tree(two) == digest
    others = [
        tree(tmp_path / "renamed", a="1", b__d="2"),
        tree(tmp_path / "moved", a="1", c="2"),
        tree(tmp_path / "changed", a="1", b__c="3"),
        tree(tmp_path / "more", a="1", b__c="2", d=""),
        tree(tmp_path / "swapped", a="2", b__c="1"),
    ]
    assert len({digest, *map(files.digest_tree, others)}) == len(others) + 1


def test_digest_of_one_file(tmp_path: Path) -> None:
    """A file's digest is the SHA-256 of its bytes, however it is asked for."""
    path = tree(tmp_path, a="1") / "a"
    expected = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert (
        files.digest_tree(path) == files.digest_file(path) == files.digest_bytes(b"1") == expected
    )


def test_digest_of_nothing_is_an_error(tmp_path: Path) -> None:
    """What is not there has no digest: it must not look like an empty folder."""
    with pytest.raises(FileNotFoundError):
        files.digest_tree(tmp_path / "nothing")


def test_names_that_are_not_text(tmp_path: Path) -> None:
    """A file name of any bytes can be digested."""
    (tmp_path / os.fsdecode(b"\xff")).write_text("x")
    assert len(files.digest_tree(tmp_path)) == 64


def test_version_changes_with_each_write(tmp_path: Path) -> None:
    """Two writes in one tick of the clock still differ."""
    path = tmp_path / "a"
    files.write_text(path, "1")
    first = files.version(path)
    files.write_text(path, "2")
    os.utime(path, ns=(first[0], first[0]))
    assert files.version(path) != first
