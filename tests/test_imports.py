"""Libraries are imported without what they do unasked."""

from __future__ import annotations

import subprocess
import sys


def test_onnx_runtime_is_told_to_report_nothing() -> None:
    """Before it is imported, in a process that did not say so; what a person set stays."""
    program = (
        "import os, sys\n"
        "from mlnb import imports\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "imports.onnxruntime()\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules)\n"
    )
    for given, told in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=given
        )
        assert done.stdout.split() == [told, "True"]
