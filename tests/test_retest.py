"""The pytest plugin on top of nbval: real notebooks, real kernels, pytest in its own process."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

SPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}


@dataclass(frozen=True)
class Outcome:
    """What pytest said of one cell."""

    status: str
    message: str
    seconds: float


Outcomes = Mapping[str, Sequence[Outcome]]


def code(source: str, *outputs: Mapping[str, Any], tags: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": 1,
        "metadata": {"tags": list(tags)},
        "outputs": list(outputs),
        "source": source,
    }


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def shown(**data: Any) -> dict[str, Any]:
    bundle = {mime.replace("_", "/"): value for mime, value in data.items()}
    return {"output_type": "display_data", "data": bundle, "metadata": {}}


def result(**data: Any) -> dict[str, Any]:
    return {**shown(**data), "output_type": "execute_result", "execution_count": 1}


def write(path: Path, *cells: Mapping[str, Any], spec: Mapping[str, str] | None = None) -> Path:
    metadata = {"kernelspec": SPEC if spec is None else spec} if spec != {} else {}
    path.write_text(
        json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4})
    )
    return path


def command(*arguments: str) -> list[str]:
    installed = importlib.metadata.entry_points(group="pytest11", name="mlnb")
    plugin = [] if installed else ["-p", "mlnb.retest"]
    quiet = ["-p", "no:cacheprovider", "-W", "error", "--color=no"]
    return [sys.executable, "-m", "pytest", *plugin, *quiet, *arguments]


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[1])
    found = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    return {**found, "PYTHONPATH": root}


def check(folder: Path, *arguments: str) -> tuple[int, Outcomes, str]:
    """Run pytest in ``folder``; return its exit code, the outcomes by notebook, and its output."""
    done = subprocess.run(
        command(*arguments, "--junitxml=out.xml"),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found: dict[str, list[Outcome]] = {}
    for case in ElementTree.parse(folder / "out.xml").iter("testcase"):
        children = [child for child in case if child.tag in ("failure", "error", "skipped")]
        status = children[0].tag if children else "passed"
        message = f"{children[0].get('message')} {children[0].text}" if children else ""
        name = str(case.get("classname")).removesuffix(".ipynb")
        found.setdefault(name, []).append(Outcome(status, message, float(case.get("time", 0))))
    return done.returncode, found, done.stdout + done.stderr


def statuses(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


FRAME = "<table><tr><td>{}</td></tr></table>"
SHOW_FRAME = f"from IPython.display import HTML; HTML({FRAME!r}.format(0.8100000001))"
SEEDED = "import random; random.seed(7); print(random.random())"  # 0.32383276483316237
MIXED = """
import sys, time
for i in range(20):
    print("out", i, flush=True)
    print("err", i, file=sys.stderr, flush=True)
    time.sleep(0.002)
"""
JSON_SHOWN = (
    "from IPython.display import display; display({'application/json': {'a': [%s]}}, raw=True)"
)
MANY = """import os, signal, sys
from IPython.display import display
os.kill(os.getppid(), signal.SIGSTOP)  # who reads is held up, as on a machine with much to do
for i in range(8000): display(i)
sys.stdout.flush()
os.kill(os.getppid(), signal.SIGCONT)
"""


def strict_notebooks(folder: Path) -> None:
    write(folder / "same.ipynb", code(SEEDED, stream("0.32383276483316237\n")))
    write(folder / "near.ipynb", code(SEEDED, stream("0.32383277\n")))
    write(folder / "far.ipynb", code(SEEDED, stream("0.32384\n")))
    write(folder / "count.ipynb", code("print(1000001)", stream("1000000\n")))
    write(
        folder / "kinds.ipynb",
        code("0.1 + 0.2", result(text_plain="0.3")),
        code(
            SHOW_FRAME,
            result(text_plain="<IPython.core.display.HTML object>", text_html=FRAME.format(0.81)),
        ),
        code(JSON_SHOWN % "0.8100000001", shown(application_json={"a": [0.81]})),
        code("object()", result(text_plain="<object at 0x7f0123456789>")),
        code("print('  score\\n0 0.30000000000000004')", stream("   score\n0    0.3\n")),
        code("import os; _ = os.system('echo child')", stream("child\n")),
        code("print('10%\\r100%')", stream("100%\n")),
        code("print(end='')"),
    )
    write(
        folder / "frames_far.ipynb",
        code(
            SHOW_FRAME,
            result(text_plain="<IPython.core.display.HTML object>", text_html=FRAME.format(0.82)),
        ),
        code(JSON_SHOWN % "0.83", shown(application_json={"a": [0.81]})),
    )
    mixed = [stream(f"{name} {i}\n", f"std{name}") for i in range(20) for name in ("err", "out")]
    write(folder / "mixed.ipynb", code(MIXED, *mixed))
    write(folder / "many.ipynb", code(MANY, *[shown(text_plain=str(i)) for i in range(8000)]))
    write(
        folder / "dev.ipynb",
        code("x = 1"),
        code("raise RuntimeError('only for me')", tags=["dev"]),
        code("print(x)", stream("1\n")),
    )
    write(folder / "stderr_moved.ipynb", code(MIXED, stream("out 0\n")))


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcomes, str]:
    folder = tmp_path_factory.mktemp("strict")
    strict_notebooks(folder)
    _, found, output = check(folder, "--nbval", ".")
    return found, output


@pytest.mark.parametrize("name", ["same", "near", "kinds", "mixed", "many"])
def test_same_results_pass(strict: tuple[Outcomes, str], name: str) -> None:
    """Equal and near outputs of every kind pass, however streams are cut and mixed."""
    assert {(o.status, o.message) for o in strict[0][name]} == {("passed", "")}


@pytest.mark.parametrize("name", ["far", "count", "frames_far", "stderr_moved"])
def test_moved_results_fail(strict: tuple[Outcomes, str], name: str) -> None:
    """A number beyond the tolerance, another count and a lost stream fail."""
    assert set(statuses(strict[0][name])) == {"failure"}


def test_a_failure_shows_the_numbers(strict: tuple[Outcomes, str]) -> None:
    """The message holds the stored and the new number."""
    (outcome,) = strict[0]["far"]
    assert "0.32384" in outcome.message
    assert "0.32383276483316237" in outcome.message


def test_dev_cells_are_deselected(strict: tuple[Outcomes, str]) -> None:
    """A cell tagged dev is not run, and pytest says so."""
    assert statuses(strict[0]["dev"]) == ["passed", "passed"]
    assert "1 deselected" in strict[1]


def test_tolerance_is_a_choice(tmp_path: Path) -> None:
    """The ini file sets the tolerances and the command line wins over it."""
    write(tmp_path / "far.ipynb", code(SEEDED, stream("0.32384\n")))
    (tmp_path / "pytest.ini").write_text("[pytest]\nnbval_rtol = 1e-4\n")
    assert check(tmp_path, "--nbval", ".")[0] == 0
    assert check(tmp_path, "--nbval", "--nbval-rtol=1e-9", ".")[0] == 1


def deadly_notebooks(folder: Path) -> None:
    after = code("print('never')")
    deaths = {
        "exit_0": "import os; os._exit(0)",
        "exit_7": "import os; os._exit(7)",
        "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "crashed": "import ctypes; ctypes.string_at(0)",
        "sys_exit": "import sys; sys.exit(0)",
        "surrogate": r"print('lost \ud800')",
        "later": "import os, threading; threading.Timer(0.2, os._exit, [0]).start()",
    }
    for name, source in deaths.items():
        write(
            folder / f"{name}.ipynb",
            code("x = 1"),
            code(source),
            code("import time; time.sleep(1)"),
            after,
        )
    write(folder / "unknown.ipynb", after, after, spec={**SPEC, "name": "pyhton3"})
    write(folder / "unnamed.ipynb", after, spec={})
    (folder / "torn.ipynb").write_text('{"cells": [')


@pytest.fixture(scope="module")
def deadly(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcomes, str]:
    folder = tmp_path_factory.mktemp("deadly")
    deadly_notebooks(folder)
    _, found, output = check(folder, "--nbval-lax", "--continue-on-collection-errors", ".")
    return found, output


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("exit_0", "exit code 0"),
        ("exit_7", "exit code 7"),
        ("killed", "killed by SIGKILL"),
        ("crashed", "killed by SIGSEGV"),
    ],
)
def test_a_dead_kernel_fails_in_seconds(
    deadly: tuple[Outcomes, str], name: str, cause: str
) -> None:
    """The cell that killed the kernel fails and says how; no later cell waits or passes."""
    outcomes = deadly[0][name]
    assert statuses(outcomes) == ["passed", "failure", "failure", "failure"]
    assert cause in outcomes[1].message
    assert "not run: in cell 1" in outcomes[2].message
    assert sum(outcome.seconds for outcome in outcomes) < 30  # nbval would wait 2000 s


def test_a_kernel_that_dies_later_fails_too(deadly: tuple[Outcomes, str]) -> None:
    """A death while another cell runs fails that cell and those after it."""
    assert statuses(deadly[0]["later"]) == ["passed", "passed", "failure", "failure"]


@pytest.mark.parametrize("name", ["sys_exit", "surrogate"])
def test_false_greens_fail(deadly: tuple[Outcomes, str], name: str) -> None:
    """``sys.exit(0)`` and a text that cannot be sent fail their cell."""
    assert deadly[0][name][1].status == "failure"


def test_kernel_that_is_not_there(deadly: tuple[Outcomes, str]) -> None:
    """An unknown kernel is named, with the one that was meant."""
    assert statuses(deadly[0]["unknown"]) == ["failure", "failure"]
    assert "kernel 'pyhton3' is not installed here" in deadly[0]["unknown"][0].message
    assert "'python3'" in deadly[0]["unknown"][0].message


def test_notebook_without_kernel(deadly: tuple[Outcomes, str]) -> None:
    """A notebook that names no kernel is told from one that passes."""
    (outcome,) = deadly[0]["unnamed"]
    assert outcome.status == "failure"
    assert "does not say which kernel" in outcome.message


def test_torn_notebook(deadly: tuple[Outcomes, str]) -> None:
    """A file cut off is named, without a traceback."""
    assert "torn.ipynb: not a notebook, or cut off" in deadly[1]


def test_time_limit(tmp_path: Path) -> None:
    """A cell past its limit is interrupted; one that swallows that is killed; the rest fails."""
    stubborn = (
        "import time\nwhile True:\n    try: print('.', flush=True); time.sleep(0.1)\n"
        "    except KeyboardInterrupt: pass"
    )
    polite = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('fine')"
    write(tmp_path / "loop.ipynb", code("while True: pass"), code("1"))
    write(tmp_path / "stubborn.ipynb", code(stubborn), code("1"))
    write(tmp_path / "polite.ipynb", code(polite, stream("fine\n")), code("1"))
    started = time.monotonic()
    rc, found, _ = check(tmp_path, "--nbval", "--nbval-cell-timeout=1", ".")
    assert time.monotonic() - started < 45
    assert rc == 1
    for name in ("loop", "stubborn", "polite"):
        assert statuses(found[name]) == ["failure", "failure"]
        assert "time limit of 1 s" in found[name][0].message
        assert "not run: cell 0 ran into its time limit" in found[name][1].message


def kernels_of(process: int) -> list[psutil.Process]:
    """Return the kernels that pytest has started, once there is one."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        children = psutil.Process(process).children(recursive=True)
        found = [child for child in children if "ipykernel_launcher" in " ".join(child.cmdline())]
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("no kernel was started")


def test_no_kernel_is_left_behind(tmp_path: Path) -> None:
    """The kernel ends with pytest, however pytest ends."""
    write(tmp_path / "long.ipynb", code("import time; time.sleep(600)"))
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
    running = [
        subprocess.Popen(
            command("--nbval", "."),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in signals
    ]
    kernels = [kernel for process in running for kernel in kernels_of(process.pid)]
    time.sleep(2)  # until the cells run
    for process, how in zip(running, signals, strict=True):
        process.send_signal(how)
        process.wait(20)
    assert psutil.wait_procs(kernels, timeout=15)[1] == []


def test_nothing_is_imported_without_nbval(tmp_path: Path) -> None:
    """People without notebooks pay for no import of ours, and nothing of ours warns."""
    (tmp_path / "test_it.py").write_text(
        "import sys\ndef test_it():\n"
        "    ours = {m for m in sys.modules if m.startswith('mlnb')}\n"
        "    assert ours <= {'mlnb', 'mlnb.retest'}, ours\n"
    )
    write(tmp_path / "broken.ipynb", code("1 / 0"))
    rc, found, output = check(tmp_path, ".")
    assert rc == 0, output
    assert list(found) == ["test_it"]
    assert check(tmp_path, "-p", "no:nbval", ".")[0] == 0


def test_default_time_limit() -> None:
    """The project's cell deadline is nbval's time limit, unless the command line has one."""
    from mlnb import retest

    class Early:
        known_args_namespace = type("Known", (), {"nbval": True, "nbval_lax": False})
        rootpath = Path("/nowhere")

    args: list[str] = ["--nbval"]
    retest.pytest_load_initial_conftests(Early(), args)  # type: ignore[arg-type]
    assert args == ["--nbval-cell-timeout=600.0", "--nbval"]
    args = ["--nbval", "--nbval-cell-timeout=3"]
    retest.pytest_load_initial_conftests(Early(), args)  # type: ignore[arg-type]
    assert args == ["--nbval", "--nbval-cell-timeout=3"]
