"""Whether two results are the same, but for the last digits.

Two honest runs of one computation can differ in the last bits of a float: another CPU, another
order of a sum. This package compares two results as a person would, numbers within a tolerance
and everything else exactly, and says the difference in words. ``text``, ``values`` (JSON),
``tables`` and ``notebooks`` each know one kind; ``compare`` finds the kind of two files.
"""

from mlnb.tolerance.notebooks import compare_notebooks
from mlnb.tolerance.paths import compare
from mlnb.tolerance.records import ATOL, RTOL, Difference, Tolerance
from mlnb.tolerance.tables import compare_frames
from mlnb.tolerance.text import compare_text, snap_text
from mlnb.tolerance.values import compare_values, snap_value

__all__ = [
    "ATOL",
    "RTOL",
    "Difference",
    "Tolerance",
    "compare",
    "compare_frames",
    "compare_notebooks",
    "compare_text",
    "compare_values",
    "snap_text",
    "snap_value",
]
