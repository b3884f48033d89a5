"""What a candidate is judged on: today's test rows, and what each model says of them.

The candidate and the model in production answer here, from their bundles; what the notebook wrote
of its own model is only compared with that. What is checked on the way is told by
:mod:`mlnb.gates.integrity`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlnb.bundle import Bundle, chosen, read_rows
from mlnb.errors import MlnbError, did_you_mean
from mlnb.files import digest_bytes, digest_file, digest_tree
from mlnb.gates.champion import Champion, is_revoked
from mlnb.gates.language import Check, Gates, Schema
from mlnb.gates.verdicts import GateError
from mlnb.statistics import Design, Sample
from mlnb.trust import keys

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The test rows and what is said of them; n rows, in the order of their keys.

    Attributes:
        root: the project's root, which paths in rules are relative to.
        gates: the section of params.yaml.
        bundle: the candidate.
        champion: the model in production, if there is one.
        rows: the test rows [n], all columns of the table they come from.
        training: the rows that the candidate was trained on.
        predictions: what the evaluation wrote of the same rows [n], in the same order.
    """

    root: Path
    gates: Gates
    bundle: Bundle
    champion: Champion | None
    rows: pd.DataFrame
    training: pd.DataFrame
    predictions: pd.DataFrame
    _designs: dict[str | None, Design] = field(default_factory=dict, repr=False)

    @property
    def task(self) -> Any:
        """What the model does: binary, multiclass or regression."""
        return self.bundle.manifest.task

    @functools.cached_property
    def target(self) -> npt.NDArray[Any]:
        """The truth [n]; of a binary task 1 for the positive class, else 0."""
        return self.numbers(self.rows[self.bundle.manifest.target])

    def numbers(self, truth: pd.Series[Any]) -> npt.NDArray[Any]:
        """Return truths [n] as ``target`` has them."""
        if self.task == "binary":
            positive: npt.NDArray[Any] = truth.eq(self.bundle.manifest.classes[-1]).to_numpy(
                np.int64
            )
            return positive
        return truth.to_numpy()

    @functools.cached_property
    def scores(self) -> Floats:
        """The candidate's answers, from its bundle [n] or [n, k]."""
        return _answers(self.bundle, self.rows, "the candidate")

    @functools.cached_property
    def claimed(self) -> Floats:
        """What the evaluation says that the candidate answered [n] or [n, k]."""
        return self.written(self.gates.score)

    def written(self, name: str) -> Floats:
        """Return scores that the evaluation wrote [n] or [n, k].

        Raises:
            GateError: no such column, or values that are no finite numbers.
        """
        if self.task == "multiclass":
            names = [f"{name}_{label}" for label in self.bundle.manifest.classes]
            return np.stack([self._score(each) for each in names], axis=1)
        return self._score(name)

    def _score(self, name: str) -> Floats:
        try:
            found = self._column(self.predictions, name, self.gates.predictions)
            values = found.to_numpy(np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise GateError(
                f"column {name!r} holds no numbers", where=self.gates.predictions
            ) from error
        if bad := int((~np.isfinite(values)).sum()):
            raise GateError(
                f"{bad} of {len(values)} values of {name!r} are missing or not finite",
                where=self.gates.predictions,
                remedy="A model that gives no number for a row cannot be judged on it.",
            )
        return values

    def rival(self, name: str) -> Floats:
        """Return the answers of ``baseline``, ``champion``, or of a column of the predictions.

        Raises:
            GateError: there is none of that name, or no champion.
        """
        if name == "baseline":
            if self.gates.baseline is None:
                raise GateError("gates.baseline names no column of the predictions")
            return self.written(self.gates.baseline)
        if name == "champion":
            if self.champion is None:
                raise GateError("nothing is in production")
            return self._of_champion
        return self.written(name)

    @functools.cached_property
    def _of_champion(self) -> Floats:
        assert self.champion is not None
        theirs, ours = self.champion.bundle.manifest, self.bundle.manifest
        if (theirs.task, theirs.target, theirs.classes) != (ours.task, ours.target, ours.classes):
            classes = f" ({', '.join(map(str, theirs.classes))})" if theirs.classes else ""
            raise GateError(
                f"the model in production does another task: {theirs.task} of"
                f" {theirs.target}{classes}"
            )
        return _answers(self.champion.bundle, self.rows, "the model in production")

    def sample(self, scores: Floats, threshold: float | None = None) -> Sample:
        """Return the sample of a model's answers, selected from ``threshold`` on."""
        chosen_from = self.gates.threshold if threshold is None else threshold
        classes = self.bundle.manifest.classes if self.task == "multiclass" else None
        assert chosen_from is None or isinstance(chosen_from, float)
        return Sample(self.task, self.target, scores, chosen_from, classes)

    def design(self, cluster: str | None = None) -> Design:
        """Return who was drawn: clusters of rows by a column, or rows."""
        defaults = self.gates.defaults
        name = cluster or defaults.cluster
        if name not in self._designs:
            clusters = None if name is None else self.column(name).to_numpy()
            self._designs[name] = Design.of(
                len(self.rows), clusters, resamples=defaults.resamples, seed=defaults.seed
            )
        return self._designs[name]

    def column(self, name: str) -> pd.Series[Any]:
        """Return a column of the test rows [n], or else of the predictions.

        Raises:
            GateError: neither has it, or a value is missing.
        """
        table = self.rows if name in self.rows.columns else self.predictions
        found = self._column(table, name, self.gates.predictions, also=self.rows.columns)
        if missing := int(found.isna().sum()):
            raise GateError(f"column {name!r} is missing in {missing} of {len(found)} test rows")
        return found

    def _column(self, table: pd.DataFrame, name: str, where: str, also: Any = ()) -> pd.Series[Any]:
        if name not in table.columns:
            known = list(dict.fromkeys([*map(str, table.columns), *map(str, also)]))
            raise GateError(
                f"no column {name!r}.{did_you_mean(name, known)}",
                where=where,
                remedy=f"Columns: {', '.join(known)}.",
            )
        return table[name]

    @functools.cached_property
    def digest(self) -> str:
        """A digest of the test rows: their keys, what the model sees, and the truth."""
        manifest = self.bundle.manifest
        names = [*dict.fromkeys([*self.gates.key, *manifest.features, manifest.target])]
        hashed = pd.util.hash_pandas_object(self.rows[names], index=False).to_numpy()
        return f"sha256:{digest_bytes(' '.join(names).encode() + hashed.tobytes())}"


def _answers(bundle: Bundle, rows: pd.DataFrame, who: str) -> Floats:
    """Return what a model says of ``rows``; whatever it raises is said of it, too."""
    try:
        return bundle.predict(rows)
    except MlnbError:
        raise
    except Exception as error:  # of a model that is not ours
        raise GateError(f"{who} fails on the test rows: {type(error).__name__}: {error}") from error


def gather(root: Path, gates: Gates, bundle: Bundle, champion: Champion | None) -> Evidence:
    """Return the evidence: the bundle's rows and the predictions, joined by their key.

    Raises:
        MlnbError: a file is missing or not the one that the bundle was made of; a key that is
            missing, not unique, or not the same in both.
    """
    manifest = bundle.manifest
    where = manifest.data.path
    path = root / where
    table = read_rows(path, where=where)
    if digest_file(path) != manifest.data.sha256:
        raise GateError(
            f"is not the file that {gates.bundle} was made of",
            where=where,
            remedy="Run `dvc repro`.",
        )
    test = _ordered(table[chosen(table, manifest.test.where, where=where)], gates.key, where)
    said = read_rows(root / gates.predictions, where=gates.predictions)
    said = _ordered(said, gates.key, gates.predictions)
    if len(test) != len(said) or not _same(test[gates.key], said[gates.key]):
        ours, theirs = _keys(test, gates.key), _keys(said, gates.key)
        raise GateError(
            f"does not hold the test rows: {len(ours - theirs)} are missing and"
            f" {len(theirs - ours)} are no test rows",
            where=gates.predictions,
            remedy="Evaluate on the rows that package.test selects; `dvc repro`.",
        )
    training = table[chosen(table, manifest.train.where, where=where)]
    return Evidence(root, gates, bundle, champion, test, training, said)


def _ordered(table: pd.DataFrame, key: list[str], where: str) -> pd.DataFrame:
    """Return the rows in the order of their keys, which are there and different."""
    for name in key:
        if name not in table.columns:
            known = list(map(str, table.columns))
            raise GateError(
                f"no key column {name!r}.{did_you_mean(name, known)}",
                where=where,
                remedy=f"Columns: {', '.join(known)}.",
            )
        if table[name].isna().any():
            raise GateError(f"key {name!r} is missing in some rows", where=where)
    if twice := int(table.duplicated(key).sum()):
        raise GateError(
            f"{twice} rows have a key ({', '.join(key)}) that another has: a row that counts twice"
            " makes every interval too narrow",
            where=where,
        )
    return table.sort_values(key, ignore_index=True, kind="stable")


def _same(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    return all(
        np.array_equal(first[name].to_numpy(), second[name].to_numpy()) for name in first.columns
    )


def _keys(table: pd.DataFrame, key: list[str]) -> set[tuple[Any, ...]]:
    return set(table[key].itertuples(index=False, name=None))


def inputs(
    root: Path, gates: Gates, bundle: Bundle | None, section: Mapping[str, Any]
) -> dict[str, str]:
    """Return the digest of each thing that a judgement rests on; '' for what is missing.

    Args:
        root: the project's.
        gates: the section as it is meant.
        bundle: the candidate; None if there is none to open.
        section: the section as it is written.
    """
    files = [gates.predictions, gates.champion, *([gates.metrics] if gates.metrics else [])]
    files += [rule.file for rule in gates.rules if isinstance(rule, Schema)]
    own = [name for rule in gates.rules if isinstance(rule, Check) for name in rule.modules]
    files += [name for name in own if (root / name).is_file()]
    files += [bundle.manifest.data.path] if bundle else []
    found = {
        name: f"sha256:{digest_file(root / name)}" if (root / name).is_file() else ""
        for name in files
    }
    if is_revoked(root / gates.champion):
        # The file stays as it is, and what it says counts no more.
        folder = (Path(gates.champion).parent / keys.FOLDER).as_posix()
        found[folder] = f"sha256:{digest_tree(root / folder)}"
    told = json.dumps({**section, "threshold": gates.threshold}, sort_keys=True, default=str)
    found["gates"] = f"sha256:{digest_bytes(told.encode())}"
    return {**found, gates.bundle: bundle.digest if bundle else ""}
