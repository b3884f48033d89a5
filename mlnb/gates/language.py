"""The section ``gates`` of params.yaml: what may stand there, and what is wrong with what does.

A rule is known by its key: ``metric`` with ``against``, ``groups`` or a limit, ``schema``,
``drift``, ``latency``, ``size``, ``golden``, ``check``. Everything that is wrong is found before
anything is computed, and told at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlnb.errors import MlnbError, did_you_mean
from mlnb.gates.verdicts import GateError
from mlnb.statistics import METRICS

SECTION = "gates"
_SIZES = {"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20}
_TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_AMOUNT = re.compile(r"^\s*([0-9]*\.?[0-9]+)\s*([A-Za-z%]+)\s*$")


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, populate_by_name=True, allow_inf_nan=False
    )


def amount(text: str | float, units: Mapping[str, float], what: str) -> float:
    """Return a quantity such as ``5 MB`` as a number of the smallest unit that ``units`` counts.

    Raises:
        ValueError: not a number with one of the units.
    """
    found = _AMOUNT.match(text) if isinstance(text, str) else None
    if not found or found[2] not in units:
        raise ValueError(f"{what} is a number with a unit, {' or '.join(units)}: not {text!r}")
    return float(found[1]) * units[found[2]]


class Defaults(_Strict):
    """What every rule uses unless it says otherwise."""

    confidence: Annotated[float, Gt(0.5), Lt(1)] = 0.95
    """One-sided: each decision is made on one bound, which the truth passes with chance 0.05."""
    cluster: str | None = None
    """Column whose equal values were drawn together; without one, every row was drawn by itself."""
    resamples: Annotated[int, Ge(100), Le(100_000)] = 2000
    seed: Annotated[int, Ge(0)] = 0
    min_rows: Annotated[int, Ge(1)] = 200
    """Slices and groups with fewer rows are named and skipped."""
    min_positives: Annotated[int, Ge(0)] = 50
    """So are those with fewer positive (or negative) rows, where the metric needs them."""


class WearLimit(_Strict):
    """Where uses of test sets are counted, and from which number on a warning is given."""

    file: str = "deployments/test-sets.json"
    warn: Annotated[int, Ge(2)] = 20


class Rule(_Strict):
    """What all rules have."""

    kind: ClassVar[str]
    """Name of the module that judges it."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    """Name of the rule, unique."""
    on_fail: Literal["block", "warn"] = "block"
    """``warn``: it is shown and blocks nothing. An error blocks always."""


class _OfMetric(Rule):
    metric: str
    """Name of a metric of the task."""
    confidence: Annotated[float, Gt(0.5), Lt(1)] | None = None
    cluster: str | None = None
    threshold: Annotated[float, Ge(0), Le(1)] | None = None
    """Score from which a row is selected."""

    @field_validator("metric")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in METRICS:
            raise ValueError(
                f"there is no such metric.{did_you_mean(name, METRICS)}"
                f" Metrics: {', '.join(METRICS)}"
            )
        return name


class Absolute(_OfMetric):
    """A floor or a ceiling, kept with confidence; in each slice if some are named."""

    kind: ClassVar[str] = "absolute"
    min: float | None = None
    max: float | None = None
    slices: list[str] = []
    """Columns; each of their values is a slice."""
    min_rows: Annotated[int, Ge(1)] | None = None
    min_positives: Annotated[int, Ge(0)] | None = None

    @model_validator(mode="after")
    def _limited(self) -> Absolute:
        if self.min is None and self.max is None:
            raise ValueError("needs a limit: min, max, against, or groups")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Against(_OfMetric):
    """Paired, on the same rows: better than another model, or not much worse."""

    kind: ClassVar[str] = "against"
    against: str
    """``baseline``, ``champion``, or a column of the predictions."""
    gain: float | str | None = None
    """By how much it must be better: 0.01, or "2%" of what the other has."""
    tolerance: float | str | None = None
    """By how much it may be worse."""
    evidence: Literal["better", "proven"] = "better"
    """``better``: the gain as measured, and surely above 0. ``proven``: surely the whole gain."""

    @model_validator(mode="after")
    def _one(self) -> Against:
        if (self.gain is None) == (self.tolerance is None):
            raise ValueError("needs either gain or tolerance")
        if self.gain is None and self.evidence != "better":
            raise ValueError("evidence belongs to gain")
        self.margin()
        return self

    def margin(self) -> tuple[float, bool]:
        """Return the gain or tolerance, and whether it is a share of what the other has."""
        given = self.gain if self.gain is not None else self.tolerance
        assert given is not None
        relative = isinstance(given, str)
        value = amount(given, {"%": 0.01}, "a share") if isinstance(given, str) else float(given)
        if not 0 <= value < float("inf"):
            raise ValueError(f"gain and tolerance are 0 or more, not {given}")
        return value, relative


class Fairness(_OfMetric):
    """Groups of people are treated alike: fails on evidence of harm, passes on evidence of none."""

    kind: ClassVar[str] = "fairness"
    groups: Annotated[list[str], Field(min_length=1)]
    """Columns; the values of each are compared with each other."""
    max_difference: Annotated[float, Ge(0)] | None = None
    min_ratio: Annotated[float, Gt(0), Le(1)] | None = None
    min_rows: Annotated[int, Ge(1)] | None = None
    min_positives: Annotated[int, Ge(0)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Fairness:
        if (self.max_difference is None) == (self.min_ratio is None):
            raise ValueError("needs either max_difference or min_ratio")
        return self


class Schema(Rule):
    """The test rows fit a pandera schema."""

    kind: ClassVar[str] = "schema"
    file: Annotated[str, Field(alias="schema", min_length=1)]
    """A pandera schema as YAML."""


class Drift(Rule):
    """The test rows come from where the training rows came from."""

    kind: ClassVar[str] = "drift"
    drift: Literal["all"] | Annotated[list[str], Field(min_length=1)]
    """Columns to compare; ``all``: those that the model takes."""
    max_psi: Annotated[float, Gt(0)] = 0.2
    """Largest population stability index; it counts only if chance does not explain it."""


class Latency(Rule):
    """Time of the processor for one row, at the 95th percentile, in a fresh process."""

    kind: ClassVar[str] = "latency"
    latency: str
    """``20 ms``."""

    @model_validator(mode="after")
    def _told(self) -> Latency:
        amount(self.latency, _TIMES, "latency")
        return self

    @property
    def milliseconds(self) -> float:
        """The limit in milliseconds."""
        return amount(self.latency, _TIMES, "latency")


class Size(Rule):
    """Bytes of the bundle."""

    kind: ClassVar[str] = "size"
    size: str
    """``5 MB``."""

    @model_validator(mode="after")
    def _told(self) -> Size:
        amount(self.size, _SIZES, "size")
        return self

    @property
    def bytes(self) -> float:
        """The limit in bytes."""
        return amount(self.size, _SIZES, "size")


class Golden(Rule):
    """The bundle, loaded in a fresh process, answers the golden requests as when it was packed."""

    kind: ClassVar[str] = "golden"
    golden: Literal["exact"] | Annotated[float, Ge(0)]
    """``exact``, or the largest difference allowed."""


class Check(Rule):
    """A person's own gate: a function that takes the evidence and returns a finding."""

    kind: ClassVar[str] = "check"
    check: str
    """``module:function``, or the name of an entry point of group mlnb.gates."""
    options: dict[str, Any] = {}
    """Handed to the function as keyword arguments."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Files that may hold the function, as named from the project's root."""
        module, _, function = self.check.partition(":")
        path = f"{module.replace('.', '/')}.py"
        return (path, f"notebooks/{path}") if function else ()


_BY_KEY: Mapping[str, type[Rule]] = {
    "against": Against,
    "groups": Fairness,
    "metric": Absolute,
    "schema": Schema,
    "drift": Drift,
    "latency": Latency,
    "size": Size,
    "golden": Golden,
    "check": Check,
}
KINDS = tuple(_BY_KEY.values())
AnyRule = Absolute | Against | Fairness | Schema | Drift | Latency | Size | Golden | Check


class Gates(_Strict):
    """The section ``gates`` of params.yaml; paths are relative to the project's root."""

    predictions: str = "reports/predictions.parquet"
    """What the evaluation wrote: one row per test row."""
    score: str = "score"
    """Its column with the candidate's probability or prediction; of several classes, the first
    part of the names of their columns, SCORE_CLASS."""
    key: Annotated[list[str], Field(min_length=1)]
    """Columns that name a row: they join predictions and rows, and no two rows share them."""
    rules: Annotated[list[AnyRule], Field(min_length=1)]
    bundle: str = "models/bundle"
    baseline: str | None = None
    """Column of the predictions with the scores of a naive rule or a simple model."""
    metrics: str | None = None
    """A metrics file of the evaluation, which must say what is computed here."""
    threshold: Annotated[float, Ge(0), Le(1)] | str | None = None
    """Score from which a row is selected, or the dotted name of that value in params.yaml."""
    champion: str = "deployments/production.json"
    first_run: Literal["allow", "refuse"] = "refuse"
    """What rules against the champion say while there is none."""
    wear: WearLimit = WearLimit()
    defaults: Defaults = Defaults()


def parse(section: Any, values: Mapping[str, Any], *, where: str) -> Gates:
    """Return the section as it is meant.

    Args:
        section: as YAML holds it.
        values: the rest of params.yaml, which ``threshold`` may name a value of.
        where: the file, for messages.

    Raises:
        GateError: all that is wrong with it.
    """
    if not isinstance(section, Mapping) or not section.get("rules"):
        raise GateError(
            f"no rules in section `{SECTION}`: without a rule nothing can pass",
            where=where,
            remedy="docs/gates.md has the language; `mlnb gate schema` is for editors.",
        )
    errors: list[MlnbError] = []

    def fault(what: str) -> None:
        errors.append(GateError(what, where=where))

    rules = [
        found
        for number, given in enumerate(section["rules"] if _is_list(section["rules"]) else [0], 1)
        if (found := _rule(given, number, fault)) is not None
    ]
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            fault(f"two rules have the id {rule.id!r}")
        seen.add(rule.id)
    try:
        gates = Gates.model_validate({**section, "rules": rules or [_ANY]})
        gates = gates.model_copy(update={"threshold": _threshold(gates.threshold, values, fault)})
    except ValidationError as error:
        for each in error.errors(include_url=False):
            fault(_told(each, SECTION, list(Gates.model_fields)))
    if errors:
        raise MlnbError.join(errors)
    return gates


_ANY = Size(id="any", size="1 B")  # stands for rules that are told of already


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _rule(given: Any, number: int, fault: Callable[[str], None]) -> Rule | None:
    """Return one rule, or say what is wrong with it."""
    name = f"rule {number}"
    if not isinstance(given, Mapping):
        fault(f"{name} is not a mapping of keys to values")
        return None
    if isinstance(given.get("id"), str):
        name = f"rule {given['id']!r}"
    kind = next((model for key, model in _BY_KEY.items() if key in given), None)
    if kind is None:
        near = (did_you_mean(str(key), _BY_KEY) for key in given)
        fault(
            f"{name} has no key that says what it looks at.{next(filter(None, near), '')}"
            f" Such keys: {', '.join(_BY_KEY)}"
        )
        return None
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        known = [field.alias or key for key, field in kind.model_fields.items()]
        for each in error.errors(include_url=False):
            fault(_told(each, name, known))
        return None


def _told(error: Any, place: str, known: Sequence[str]) -> str:
    """Return one finding of pydantic in our words."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{place}: {key} is missing"
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        return f"{place}: unknown key {key!r}.{did_you_mean(name, known)} Keys: {', '.join(known)}"
    if not key:
        return f"{place}: {error['msg'].removeprefix('Value error, ')}"
    told = error["msg"].removeprefix("Value error, ")
    return f"{place}: {key} cannot be {error['input']!r}: {told}"


def _threshold(
    given: float | str | None, values: Mapping[str, Any], fault: Callable[[str], None]
) -> float | None:
    """Return the threshold as a number, looked up where it is the name of one."""
    if not isinstance(given, str):
        return given
    found: Any = values
    for part in given.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
        fault(f"{SECTION}: threshold names {given!r}, which is {found!r}: no number from 0 to 1")
        return None
    return float(found)


def schema() -> dict[str, Any]:
    """Return the JSON schema of params.yaml's section, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "params.yaml with gates of mlnb",
        "type": "object",
        "properties": {SECTION: {"$ref": "#/$defs/Gates"}},
        "$defs": _definitions(),
    }


def _definitions() -> dict[str, Any]:
    made = Gates.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
    definitions: dict[str, Any] = made.pop("$defs")
    return {**definitions, "Gates": made}
