"""A compiled scorer out of its files, ready to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlnb.scorer import calibrated, form, linear, session, trees, values
from mlnb.scorer.calibrated import Answers
from mlnb.scorer.kinds import ScorerError
from mlnb.scorer.links import is_finite
from mlnb.scorer.program import runner

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


class Compiled:
    """A compiled scorer.

    Attributes:
        compiled: true.
        why: empty.
        columns: names of the columns, in the order of the values in a row.
        engine: what sums the trees: ``onnxruntime``, or ``numpy``; ``numpy`` without trees.
    """

    compiled = True
    why = ""

    def __init__(self, told: Mapping[str, Any], *, fast: bool = True) -> None:
        """Read the content of the files; ``fast`` allows ONNX Runtime."""
        self.columns = tuple(str(each["name"]) for each in told["columns"])
        self.engine = "numpy"
        self._fast = fast
        self._encode = values.encoder(told["columns"])
        self._model = self._read(told["model"], len(self.columns))

    def score(self, rows: Sequence[Sequence[Any]]) -> Floats:
        """Return the answers [n] or [n, k] for rows [n] of plain values.

        Raises:
            ScorerError: a row holds what the model takes no answer from.
        """
        import numpy as np

        with np.errstate(all="ignore"):
            found = self._model.scores(self._encode(rows))
            finite = is_finite(found)
        if not finite:
            raise ScorerError("has no finite answer", where="request")
        return found

    def _read(self, told: Mapping[str, Any], width: int) -> Answers:
        core = told["core"]
        made: Answers
        if core["kind"] == "linear":
            made = linear.Core(core)
        elif core["kind"] == "trees":
            made = self._trees(core, len(told["program"]["source"]))
        elif core["kind"] == "calibrated":
            inner = len(told["program"]["source"])
            made = calibrated.Core(core, lambda member: self._read(member, inner))
        else:
            raise ScorerError(f"has a core {core['kind']!r}, which this mlnb does not know")
        return _After(runner(told["program"], width), made)

    def _trees(self, core: Mapping[str, Any], width: int) -> trees.Core:
        found = trees.read(core)
        plain = trees.plain_sums(found)
        fast = session.fast_sums(found, width, plain) if self._fast else None
        if fast is not None:
            self.engine = "onnxruntime"
        return trees.Core(found, fast or plain)


class _After:
    """A core, and the program before it."""

    def __init__(self, run: Callable[[Floats], Floats], core: Answers) -> None:
        self._run, self._core = run, core

    def margins(self, inputs: Floats) -> Floats:
        return self._core.margins(self._run(inputs))

    def scores(self, inputs: Floats) -> Floats:
        return self._core.scores(self._run(inputs))


def load(files: Mapping[str, bytes], *, where: str = "", fast: bool = True) -> Compiled:
    """Return the scorer in its two files.

    Args:
        files: the bytes of each, by the names in :data:`mlnb.scorer.FILES`.
        where: the place as people call it.
        fast: use ONNX Runtime where it is installed and agrees with numpy.

    Raises:
        ScorerError: another format, or bytes that are no compiled scorer.
    """
    told = form.parse(files, where=where)
    try:
        return Compiled(told, fast=fast)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ScorerError(f"is no compiled scorer: {error!r}", where=where) from error
