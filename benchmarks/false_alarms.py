"""How often strict nbval cries wolf on the executed notebooks of the reference project.

Runs `pytest --nbval reports/executed` again and again in a copy of this checkout; nothing has
changed, so every red run is a false alarm.

    dvc repro && python benchmarks/false_alarms.py [--runs 20]
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "cache", "tmp", ".mypy_cache", "__pycache__")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=20)
    runs = options.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        alarms = sum(not _green(copy, run) for run in range(1, runs + 1))
    print(f"{alarms} false alarms in {runs} runs")
    sys.exit(alarms > 0)


def _green(copy: Path, run: int) -> bool:
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "reports/executed"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    counted = re.findall(r"(?m)^.*\b\d+ passed.*$|^.*\b\d+ failed.*$", done.stdout)
    print(f"run {run}: {counted[-1] if counted else done.stdout[-500:]}", flush=True)
    # No test collected is no green run either.
    return done.returncode == 0 and " passed" in done.stdout


if __name__ == "__main__":
    main()
