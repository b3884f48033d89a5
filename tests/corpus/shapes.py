"""Notebooks of odd shapes, sources and parameters."""

from __future__ import annotations

import datetime
from pathlib import PurePosixPath

from corpus.sample import sample
from notebooks import prose

SAMPLES = (
    sample(
        "an empty notebook",
    ),
    sample(
        "prose only",
        """
# %% [markdown]
# Title
""",
    ),
    sample(
        "prose, empty cells and comments",
        prose("# Title"),
        "",
        "   \n",
        "# only a comment",
        "1",
        shows=("1",),
    ),
    sample(
        "tags and dev cells",
        """
x = 1
# %% dev
x = 2
# %%
x
# %% mine hide-input
1
# %% remove-cell
2
""",
        shows=(
            "1",
            "2",
        ),
    ),
    sample(
        "parameters as they are",
        """
# %% parameters
a: int = 1
b: str = 'x'
# %%
a, b
""",
        shows=("(1, 'x')",),
    ),
    sample(
        "parameters injected",
        """
# %% parameters
a: int = 1
b: str = 'x'
# %%
a, b
""",
        shows=("🚀",),
        values={"a": 2, "b": 'it\'s "q"\n\\ ü 🚀'},
    ),
    sample(
        "parameters of every type",
        """
# %% parameters
pass
# %%
n, z, f, i, t, l, d, day, when, p, big, tiny, neg, flag
""",
        shows=("datetime.date(2026, 11, 21)",),
        values={
            "n": None,
            "z": 0,
            "f": 1.5,
            "i": float("inf"),
            "t": (1, "a"),
            "l": [1, [2.5, None]],
            "d": {"a": [True], "b'": {}},
            "day": datetime.date(2026, 11, 21),
            "when": datetime.datetime(2026, 11, 21, 10, 0),
            "p": PurePosixPath("a b/c'd"),
            "big": 1180591620717411303424,
            "tiny": 5e-324,
            "neg": -3,
            "flag": False,
        },
    ),
    sample(
        "parameters without a cell",
        """
x
""",
        shows=("5",),
        values={"x": 5},
    ),
    sample(
        "many cells",
        *(f"x = {i}" for i in range(199)),
        "x",
        shows=("198",),
    ),
    sample(
        "odd sources",
        "x = 1\\\n  + 1\nx",
        "s = '''a\r\nb'''\ns",
        "print('tab')\t",
        "1\n\n\n",
        "# end\n2 # two",
        "'''text'''",
        "f'{1 + 1}'",
        "from math import *\n(y := floor(2.5))",
        "y, pi",
        shows=(
            "tab",
            "2",
            "3.14",
        ),
    ),
    sample(
        "classes, closures and patterns",
        """
def d(f):
    def g(*a):
        print('call', f.__name__)
        return f(*a)
    return g
@d
def h(x): return x
h(3)
# %%
class A:
    def m(self): return __class__
A().m()
# %%
from __future__ import annotations
def f(x: Unknown): return x
match [1, 2]:
    case [a, b]:
        print(a, b)
# %%
def g(x: AlsoUnknown): return f.__annotations__
g(1)
""",
        shows=(
            "call h",
            "1 2",
        ),
    ),
)
