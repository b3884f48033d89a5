"""`mlnb run` on notebooks that would fool other runners, each in a real kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlnb import cli
from notebooks import Cell, code, document, parameters, project, prose, write

Outcome = tuple[int, str]
Runner = Callable[..., Outcome]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that is the working directory."""
    monkeypatch.chdir(project(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return tmp_path


@pytest.fixture
def run(root: Path, capsys: pytest.CaptureFixture[str]) -> Runner:
    """Write a notebook, run it, and return the exit code and what was said on standard error."""

    def call(
        *cells: Cell | str, options: tuple[str, ...] = (), kernel: str | None = "python3"
    ) -> Outcome:
        write(root / "notebooks" / "nb.ipynb", *cells, kernel=kernel)
        with warnings.catch_warnings(action="default"):  # a notebook does not share pytest's
            exit_code = cli.main(["run", "notebooks/nb.ipynb", *options])
        said = capsys.readouterr().err
        assert "Traceback (most recent call last)" not in said
        return exit_code, said

    return call


def executed(root: Path) -> dict[str, Any]:
    """Return the executed copy of a run that passed."""
    copy: dict[str, Any] = json.loads((root / "reports/executed/nb.ipynb").read_bytes())
    return copy


def failed(root: Path) -> dict[str, Any]:
    """Return the notebook of a run that failed, as far as it came."""
    assert not (root / "reports/executed/nb.ipynb").exists()
    assert (root / "reports/failed/nb.html").is_file()
    copy: dict[str, Any] = json.loads((root / "reports/failed/nb.ipynb").read_bytes())
    assert copy["metadata"]["mlnb"]["status"] == "failed"
    return copy


DIES = {
    "raises": ("1 / 0", "cell 2 raised ZeroDivisionError"),
    "sys.exit(0)": ("import sys; sys.exit(0)", "cell 2 called sys.exit(0)"),
    "sys.exit(3)": ("import sys; sys.exit(3)", "cell 2 called sys.exit(3)"),
    "os._exit(0)": ("import os; os._exit(0)", "exit code 0 in cell 2"),
    "os._exit(7)": ("import os; os._exit(7)", "exit code 7 in cell 2"),
    "segfault": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "kill -9": ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
    "abort": ("import os; os.abort()", "SIGABRT"),
    "lone surrogate": ("print('\\ud800')", "UnicodeEncodeError"),
    "lone surrogate to stderr": (
        "import sys; print('\\udfff', file=sys.stderr)",
        "UnicodeEncodeError",
    ),
    "lone surrogate displayed": (
        "from IPython.display import HTML; HTML('\\ud800')",
        "UnicodeEncodeError",
    ),
    "input()": ("input()", "StdinNotImplementedError"),
    "getpass()": ("import getpass; getpass.getpass()", "StdinNotImplementedError"),
    "syntax error": ("x = = 1", "SyntaxError"),
    "out of memory": (
        "import resource as r\n"
        "pages = int(open('/proc/self/statm').read().split()[0]) + 200_000\n"
        "r.setrlimit(r.RLIMIT_AS, (pages * r.getpagesize(),) * 2); b = bytearray(8 << 30)",
        "MemoryError",
    ),
    "exception without a message": ("raise RuntimeError", "cell 2 raised RuntimeError"),
    "exception that cannot be printed": (
        "class E(Exception):\n    def __str__(self):\n        raise ValueError('no')\nraise E",
        "cell 2 raised ValueError",
    ),
    "repr that raises": (
        "class A:\n    def __repr__(self):\n        raise ValueError('no repr')\nA()",
        "cell 2 raised ValueError: no repr",
    ),
    "endless recursion": ("def f():\n    return f()\nf()", "RecursionError"),
}


@pytest.mark.parametrize(("source", "cause"), DIES.values(), ids=DIES.keys())
def test_a_cell_that_ends_the_run_fails_it(
    run: Runner, root: Path, source: str, cause: str
) -> None:
    """Whatever ends the run before the last cell is a failed run with a cause, never green."""
    started = time.monotonic()
    exit_code, said = run("print('before')", source, "open('after', 'w').close()")
    assert exit_code == 1
    assert cause in said
    assert "reports/failed/nb.html" in said
    assert not (root / "after").exists()
    assert (
        time.monotonic() - started < 180
    )  # it is seen, and not waited for; a busy machine is slow
    cells = failed(root)["cells"]
    assert cells[0]["outputs"][0]["text"] == "before\n"
    assert cells[2]["execution_count"] is None


HANGS = {
    "endless loop": "while True:\n    pass",
    "endless sleep": "import time; time.sleep(1e6)",
    "loop that ignores Ctrl-C": (
        "import signal; signal.signal(2, signal.SIG_IGN)\nwhile True:\n    pass"
    ),
    "loop that swallows KeyboardInterrupt": (
        "while True:\n    try:\n        while True: pass\n    except BaseException:\n        pass"
    ),
    "stopped kernel": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "endless output": "while True:\n    print('x' * 10000)",
}


@pytest.mark.parametrize("source", HANGS.values(), ids=HANGS.keys())
def test_a_deadline_ends_every_kind_of_hang(run: Runner, root: Path, source: str) -> None:
    """No cell keeps a run beyond its deadline and ten seconds, and no kernel stays behind."""
    started = time.monotonic()
    exit_code, said = run("import os; print(os.getpid())", source, options=("--cell-deadline", "2"))
    assert time.monotonic() - started < 2 + 10 + 10  # the last ten for the start on a busy machine
    assert exit_code == 1
    assert "cell 2 ran past the cell deadline of 2 s" in said
    record = json.loads((root / ".mlnb/runs/nb.json").read_bytes())
    assert record["cells"]["2"] < 2 + 10  # from the cell's start, without the kernel's
    cells = failed(root)["cells"]
    if source == HANGS["endless loop"]:  # it could be asked to stop, so it says where it was
        assert cells[1]["outputs"][-1]["ename"] == "KeyboardInterrupt"
    kernel = int(cells[0]["outputs"][0]["text"])
    assert not psutil.pid_exists(kernel) or psutil.Process(kernel).status() == "zombie"


def test_the_run_deadline_counts_all_cells(run: Runner) -> None:
    """Cells that are each quick enough still end at the deadline of the run."""
    exit_code, said = run(*["import time; time.sleep(1)"] * 30, options=("--deadline", "4"))
    assert exit_code == 1
    assert "the run passed its deadline of 4 s in cell" in said


def test_output_is_capped_and_says_so(run: Runner, root: Path) -> None:
    """A hundred megabytes printed leave ten in the notebook, and a line that tells."""
    exit_code, _ = run("for _ in range(1000):\n    print('x' * 100_000)", "print('end')")
    assert exit_code == 0
    copy = executed(root)
    text = copy["cells"][0]["outputs"][0]["text"]
    assert 9e6 < len(text) < 10.1e6
    assert "output cut" in text
    assert copy["cells"][1]["outputs"][0]["text"] == "end\n"


def test_one_huge_output_is_capped(run: Runner, root: Path) -> None:
    """One display of thirty megabytes is left out, and a line stands in its place."""
    exit_code, _ = run("from IPython.display import HTML; HTML('y' * 30_000_000)")
    assert exit_code == 0
    outputs = executed(root)["cells"][0]["outputs"]
    assert len(json.dumps(outputs)) < 1000
    assert "output cut" in outputs[0]["text"]


BAD_INPUT: dict[str, tuple[list[Cell | str], tuple[str, ...], str]] = {
    "unknown parameter": ([parameters("n: int = 1")], ("-p", "m=2"), "unknown parameter 'm'"),
    "misspelt parameter": (
        [parameters("rate: float = 1.0")],
        ("-p", "rat=2.0"),
        "Did you mean 'rate'?",
    ),
    "missing parameter": ([parameters("n: int")], (), "'n' has no default"),
    "string for a number": ([parameters("n: int = 1")], ("-p", "n=abc"), "'n' cannot be 'abc'"),
    "fraction for an integer": ([parameters("n: int = 1")], ("-p", "n=1.5"), "'n' cannot be"),
    "number for a bool": ([parameters("b: bool = True")], ("-p", "b=1"), "'b' cannot be"),
    "out of bounds": (
        [parameters("r: Annotated[float, Gt(0), Le(1)] = 1.0")],
        ("-p", "r=1.5"),
        "less than or equal to 1",
    ),
    "not one of the choices": (
        [parameters("m: Literal['a', 'b'] = 'a'")],
        ("-p", "m=c"),
        "Accepted: Literal['a', 'b']",
    ),
    "a name that is code": (
        [parameters("n: int = 1")],
        ("-p", "n=1;import os#=2"),
        "'n' cannot be",
    ),
    "a name that is a call": (
        [parameters("n: int = 1")],
        ("-p", "os.system('x')=1"),
        "Python name",
    ),
    "a path out of the project": (
        [parameters("f: Out = 'a.txt'")],
        ("-p", "f=../../a.txt"),
        "leaves the project root",
    ),
    "missing input": ([parameters("f: In = 'nowhere.csv'")], (), "'nowhere.csv' (f) is not there"),
    "computed default": ([parameters("a: int = 1\nb: int = a * 2")], (), "line 2"),
    "statement in the parameters cell": ([parameters("a: int = 1\nprint(a)")], (), "line 2"),
    "syntax error in the parameters cell": ([parameters("a: int = (")], (), "cell 1, line 1"),
    "type that cannot be checked": ([parameters("a: DataFrame = None")], (), "Accepted types"),
    "two parameters cells": (
        [parameters("a: int = 1"), parameters("b: int = 1")],
        (),
        "cells 1 and 2",
    ),
}


@pytest.mark.parametrize(("cells", "options", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_refused_before_a_kernel_starts(
    run: Runner, root: Path, cells: list[Cell | str], options: tuple[str, ...], message: str
) -> None:
    """Bad input ends with code 2 and a message that names the notebook; nothing is written."""
    exit_code, said = run(*cells, "open('ran', 'w').close()", options=options)
    assert exit_code == 2
    assert message in said
    assert not (root / "ran").exists()
    assert not (root / "reports").exists()
    assert not (root / ".mlnb").exists()


def test_unknown_kernel_names_the_installed_ones(run: Runner) -> None:
    """A kernel that is not installed is bad input, and the message lists what is."""
    exit_code, said = run("1", kernel="no-such-kernel")
    assert exit_code == 2
    assert "kernel 'no-such-kernel' is not installed" in said
    assert "python3" in said


def test_no_kernelspec_runs_on_this_interpreter(run: Runner, root: Path) -> None:
    """A notebook that names no kernel runs where mlnb is installed."""
    exit_code, _ = run("import sys; print(sys.executable)", kernel=None)
    assert exit_code == 0
    assert executed(root)["cells"][0]["outputs"][0]["text"].strip() == sys.executable


TORN = {
    "empty": b"",
    "cut off": json.dumps(document(["1"])).encode()[:-30],
    "not JSON": b"import numpy",
    "JSON, not a notebook": b'{"a": 1}',
    "a list": b"[]",
    "format 3": b'{"nbformat": 3, "worksheets": []}',
    "cells without a source": b'{"nbformat": 4, "cells": [{"cell_type": "code"}]}',
    "not UTF-8": b'\xff\xfe{"nbformat": 4}',
}


@pytest.mark.parametrize("content", TORN.values(), ids=TORN.keys())
def test_a_broken_file_is_bad_input(
    root: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    """A file that is no notebook is named, with what helps, and nothing runs."""
    (root / "notebooks").mkdir()
    (root / "notebooks/nb.ipynb").write_bytes(content)
    assert cli.main(["run", "notebooks/nb.ipynb"]) == 2
    said = capsys.readouterr().err
    assert "nb.ipynb" in said
    assert "Traceback" not in said


def test_a_missing_file_is_bad_input(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A notebook that is not there ends with code 2."""
    assert cli.main(["run", "notebooks/none.ipynb"]) == 2
    assert "no such notebook" in capsys.readouterr().err


VALUES = {
    "quotes and newlines": ("str", 'it\'s "quoted"\nand \\ slashed\ttoo'),
    "shell": ("str", "0; touch X $(touch Y) `touch Z`"),
    "unicode": ("str", "naïve 🚀 \u2028"),
    "tuple": ("tuple[int, str]", [3, "a"]),
    "nested": ("dict[str, list[float]]", {"a": [1.5, 2.0], "b'": []}),
    "none": ("float | None", None),
    "date": ("date", "2026-11-21"),
    "datetime": ("datetime", "2026-11-21T10:00:00"),
    "path": ("Path", "a b/c'd"),
    "huge integer": ("int", 2**70),
    "tiny float": ("float", 5e-324),
    "infinity": ("float", float("inf")),
}
EXPECTED = {
    "tuple": "(3, 'a')",
    "date": "datetime.date(2026, 11, 21)",
    "datetime": "datetime.datetime(2026, 11, 21, 10, 0)",
    "path": 'PosixPath("a b/c\'d")',
}


def test_values_arrive_as_they_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every type of value reaches the kernel exactly, as data and never through a shell."""
    names = {label: f"v{i}" for i, label in enumerate(VALUES)}
    cell = "from datetime import date, datetime\nfrom pathlib import Path\n" + "\n".join(
        f"{names[label]}: {kind}" for label, (kind, _) in VALUES.items()
    )
    write(
        root / "notebooks/nb.ipynb",
        parameters(cell),
        "import json\n"
        f"print(json.dumps({{n: repr(globals()[n]) for n in {list(names.values())!r}}}))",
    )
    params = {names[label]: value for label, (_, value) in VALUES.items()}
    text = "nb: " + json.dumps(params).replace("Infinity", ".inf")
    project(
        root,
        dvc="stages:\n  nb:\n    cmd: mlnb run notebooks/nb.ipynb\n    params: [nb]\n",
        params=text,
    )
    assert cli.main(["run", "notebooks/nb.ipynb"]) == 0
    arrived = json.loads(executed(root)["cells"][-1]["outputs"][0]["text"])
    for label, (_, value) in VALUES.items():
        assert arrived[names[label]] == EXPECTED.get(label, repr(value)), label
    assert not {"X", "Y", "Z"} & {path.name for path in root.rglob("*")}


def test_the_source_is_never_written(run: Runner, root: Path) -> None:
    """A run leaves the notebook's bytes and time as they were."""
    path = write(root / "notebooks/nb.ipynb", "1")
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    assert cli.main(["run", "notebooks/nb.ipynb"]) == 0
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_two_runs_give_the_same_bytes(run: Runner, root: Path) -> None:
    """Streams split by timing, addresses, sets and prose do not change the executed copy."""
    cells: list[Cell | str] = [
        prose("# One"),
        "import sys, time\n"
        "for i in range(5):\n    print(i); print(-i, file=sys.stderr); time.sleep(0.05)\n"
        "display(object())\nprint('a\\rb')\n{str(i) for i in range(20)}",
    ]
    assert run(*cells)[0] == 0
    first = (root / "reports/executed/nb.ipynb").read_bytes()
    assert run(prose("# Two, longer"), *cells[1:])[0] == 0
    assert (root / "reports/executed/nb.ipynb").read_bytes() == first
    outputs = executed(root)["cells"][0]["outputs"]
    assert [o.get("name") for o in outputs] == ["stdout", "stderr", None, "stdout", None]
    assert outputs[2]["data"]["text/plain"] == "<object at 0x…>"
    assert outputs[3]["text"] == "b\n"


def test_raw_objects_are_displayed_as_text(run: Runner, root: Path) -> None:
    """What a cell displays raw under a kind of its own does not end the run."""
    assert run("display({'text/plain': 'p', 'x/y': {'a': 1}}, raw=True)")[0] == 0
    assert executed(root)["cells"][0]["outputs"][0]["data"]["x/y"] == '{"a": 1}'


def test_dev_cells_are_left_out(run: Runner, root: Path) -> None:
    """A cell tagged dev does not run and is not in the executed copy."""
    assert run("x = 1", code("x = 2; open('dev', 'w')", "dev"), "print(x)")[0] == 0
    assert not (root / "dev").exists()
    assert executed(root)["cells"][-1]["outputs"][0]["text"] == "1\n"


def test_an_output_that_is_not_written_fails_the_run(run: Runner, root: Path) -> None:
    """All cells passing is not enough: what was declared must be there."""
    exit_code, said = run(parameters("f: Out = 'out/a.txt'"), "1")
    assert exit_code == 1
    assert "output 'out/a.txt' was not written" in said


def test_an_output_of_an_earlier_run_fails_the_run(run: Runner, root: Path) -> None:
    """An output left by an earlier run is not taken for this run's."""
    (root / "a.txt").write_text("old")
    exit_code, said = run(parameters("f: Out = 'a.txt'"), "1")
    assert exit_code == 1
    assert "from an earlier run" in said


METRICS = {
    "NaN": '{"auc": NaN}',
    "infinity in a list": '{"auc": [1, Infinity]}',
    "null": '{"auc": null}',
    "empty": "",
    "no metric": "{}",
    "cut off": '{"auc": 0.',
}


@pytest.mark.parametrize("content", METRICS.values(), ids=METRICS.keys())
def test_metrics_that_cannot_be_judged_fail_the_run(run: Runner, content: str) -> None:
    """A metrics file must hold finite numbers."""
    exit_code, said = run(
        parameters("m: 'Metrics' = 'm.json'"), f"open(m, 'w').write({content!r}) and None"
    )
    assert exit_code == 1
    assert "metrics 'm.json'" in said


def test_subprocesses_of_a_killed_kernel_end_with_it(run: Runner, root: Path) -> None:
    """What a notebook started does not outlive a run that was ended, in no session."""
    source = (
        "import subprocess\n"
        "p = subprocess.Popen(['sleep', '1000'], start_new_session=True); print(p.pid)\n"
    )
    assert run(source, "while True: pass", options=("--cell-deadline", "2"))[0] == 1
    child = int(failed(root)["cells"][0]["outputs"][0]["text"])
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name
)
def test_a_signal_ends_run_and_kernel(root: Path, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and SIGKILL end the run, and the kernel goes with it."""
    write(
        root / "notebooks/nb.ipynb",
        "import os; open('pid', 'w').write(str(os.getpid()))",
        "while True: pass",
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "mlnb.cli", "run", "notebooks/nb.ipynb"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _wait_for(lambda: (root / "pid").exists() and (root / "pid").read_text() != "")
    kernel = psutil.Process(int((root / "pid").read_text()))
    time.sleep(0.5)  # into the second cell
    os.kill(child.pid, number)
    _, said = child.communicate(timeout=30)
    gone, _ = psutil.wait_procs([kernel], timeout=15)
    assert gone
    if number == signal.SIGKILL:
        assert child.returncode == -signal.SIGKILL
    else:
        assert child.returncode == 130
        assert "interrupted in cell 2" in said
        failed(root)
    assert not (root / "reports/executed").exists()


def test_a_success_removes_the_report_of_the_failure(run: Runner, root: Path) -> None:
    """Once a run passes, the failed copy of an earlier one is gone."""
    assert run("1 / 0")[0] == 1
    assert (root / "reports/failed/nb.html").exists()
    assert run("1")[0] == 0
    assert not (root / "reports/failed/nb.html").exists()


def test_a_failed_run_leaves_no_executed_copy_of_an_earlier_one(run: Runner, root: Path) -> None:
    """After a failure nothing lies where a passed run's copy would."""
    assert run("1")[0] == 0
    assert (root / "reports/executed/nb.ipynb").exists()
    assert run("1 / 0")[0] == 1
    failed(root)


def test_the_record_tells_how_a_run_went(run: Runner, root: Path) -> None:
    """Our own record has the status, the cause and the seconds of each cell."""
    run("1", "1 / 0")
    record = json.loads((root / ".mlnb/runs/nb.json").read_bytes())
    assert record["status"] == "failed"
    assert "ZeroDivisionError" in record["cause"]
    assert set(record["cells"]) == {"1", "2"}


def test_raises_exception_is_allowed_where_tagged(run: Runner) -> None:
    """A cell tagged raises-exception may raise; the run goes on and passes."""
    assert run(code("1 / 0", "raises-exception"), "print('on')")[0] == 0


def test_top_level_await_and_magics_work(run: Runner, root: Path) -> None:
    """What a notebook may do in an editor it may do in a run."""
    assert (
        run("import asyncio\nawait asyncio.sleep(0)", "%%bash\necho hello", "!echo there")[0] == 0
    )
    cells = executed(root)["cells"]
    assert cells[1]["outputs"][0]["text"] == "hello\n"
    assert "there" in cells[2]["outputs"][0]["text"]


def test_local_modules_are_imported_from_root_and_beside_the_notebook(
    run: Runner, root: Path
) -> None:
    """The working directory is the root; modules beside the notebook and in src are found too."""
    (root / "src").mkdir()
    (root / "src/in_src.py").write_text("a = 1")
    (root / "in_root.py").write_text("b = 2")
    (root / "notebooks").mkdir()
    (root / "notebooks/beside.py").write_text("c = 3")
    exit_code, said = run(
        f"import os; assert os.getcwd() == {str(root)!r}",
        "import in_src, in_root, beside; print(in_src.a, in_root.b, beside.c)",
    )
    assert exit_code == 0, said


def _wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
