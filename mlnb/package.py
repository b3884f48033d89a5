"""Making the bundle of this project: what params.yaml says in ``package``, and who made the model.

The stage that writes the model tells which code and which parameters go into the bundle. All of it
must be declared by the stage that packs, or DVC would keep a bundle that tells of older code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlnb import pipeline
from mlnb.bundle import Bundle, BundleError, Recipe, pack
from mlnb.errors import did_you_mean
from mlnb.pipeline import PARAMS, Pipeline, Stage
from mlnb.project import Project

SECTION = "package"
_LOCKS = ("requirements.lock", "requirements.txt")
_Label = bool | int | float | str
_Selection = Annotated[dict[str, Annotated[list[_Label], Field(min_length=1)]], Field(min_length=1)]


class Package(BaseModel):
    """The section ``package`` of params.yaml; paths are relative to the project's root."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str
    """File of the model: .skops, or .ubj and .json of XGBoost; a pickle if it is allowed."""
    task: Literal["binary", "multiclass", "regression"]
    """What the model does."""
    rows: str
    """Table of the rows that it was trained and is tested on: .parquet or .csv."""
    target: str
    """Column that it predicts."""
    train: _Selection
    """The rows it was trained on: for each named column, the values it may have."""
    test: _Selection
    """The rows it may be judged on, likewise."""
    group: str | None = None
    """Column whose equal values are never split between training and test."""
    features: list[str] | None = None
    """Columns that the model takes, in order; those that it was fitted on by default."""
    golden: Annotated[int, Ge(1), Le(1000)] = 20
    """How many golden requests."""
    card: str = ""
    """Text for the model card, or the path of a Markdown file."""
    metrics: str | None = None
    """A JSON file of figures for the model card."""
    onnx: bool = False
    """Export the model to ONNX as well, and compare the answers."""
    threshold: Annotated[float, Ge(0), Le(1)] = 0.5
    """The probability from which a row counts as positive, when decisions are compared."""
    output: str = "models/bundle"
    """Folder of the bundle."""
    allow_pickle: bool = False
    """Accept a pickle; the bundle is marked for ever."""


def package(project: Project, *, allow_pickle: bool = False) -> Bundle:
    """Pack the bundle that params.yaml describes, write it, and return it.

    Raises:
        MlnbError: a setting or a file is missing or wrong, or the stage does not declare what the
            bundle is made of; nothing has been written then.
    """
    wanted = section(project)
    line = pipeline.load(project)
    maker = next((each for each in line.stages if each.writes(wanted.model)), None)
    code = _code(project, maker)
    lock = next((name for name in _LOCKS if (project.root / name).is_file()), None)
    card = wanted.card if _is_path(wanted.card) else None
    files = [wanted.model, wanted.rows, *code, lock, wanted.metrics, card]
    _refuse_undeclared(line, maker, [name for name in files if name])
    recipe = Recipe(
        root=project.root,
        model=wanted.model,
        task=wanted.task,
        rows=wanted.rows,
        target=wanted.target,
        train={name: tuple(values) for name, values in wanted.train.items()},
        test={name: tuple(values) for name, values in wanted.test.items()},
        group=wanted.group,
        features=wanted.features,
        code=code,
        parameters=_parameters(line, maker),
        lock=lock,
        golden=wanted.golden,
        card=_text(project, wanted.card),
        metrics=_figures(project, wanted.metrics),
        onnx=wanted.onnx,
        threshold=wanted.threshold,
    )
    return pack(
        recipe, project.root / wanted.output, allow_pickle=allow_pickle or wanted.allow_pickle
    )


def section(project: Project) -> Package:
    """Return the section ``package`` of params.yaml.

    Raises:
        MlnbError: it is missing, or says what no bundle can be made of.
    """
    content = pipeline.content(project.root / PARAMS)
    found = content.get(SECTION) if isinstance(content, Mapping) else None
    known = ", ".join(Package.model_fields)
    if not isinstance(found, Mapping):
        raise BundleError(
            f"no section `{SECTION}`, which says what the bundle is made of",
            where=PARAMS,
            remedy=f"Its keys: {known}.",
        )
    try:
        return Package.model_validate(dict(found))
    except ValidationError as error:
        told = [_told(each) for each in error.errors(include_url=False)]
        raise BundleError("\n".join(told), where=PARAMS, remedy=f"Keys: {known}.") from None


def _told(error: Any) -> str:
    """Return one finding of pydantic in our words."""
    place = ".".join([SECTION, *(str(part) for part in error["loc"])])
    if error["type"] == "missing":
        return f"{place} is missing"
    if error["type"] == "extra_forbidden":
        return f"{place} is unknown.{did_you_mean(str(error['loc'][-1]), Package.model_fields)}"
    return f"{place} cannot be {error['input']!r}: {error['msg']}"


def _code(project: Project, maker: Stage | None) -> list[str]:
    """Return the code mirrors that the stage depends on."""
    folder = project.relative(project.code)
    return sorted(dep for dep in (maker.deps if maker else ()) if dep.startswith(f"{folder}/"))


def _parameters(line: Pipeline, maker: Stage | None) -> dict[str, Any]:
    given = line.given(maker) if maker else {}
    return {name: each.value for name, each in sorted(given.items())}


def _refuse_undeclared(line: Pipeline, maker: Stage | None, files: list[str]) -> None:
    """Refuse to pack what the stage that packs does not depend on, if there is such a stage."""
    packer = next((each for each in line.stages if each.tool == "package"), None)
    if packer is None:
        return
    missing = [f"deps: {name}" for name in files if not packer.reads(name)]
    wanted = ((PARAMS, SECTION), *(maker.params if maker else ()))
    missing += [
        f"params: {key}" if file == PARAMS else f"params: {{{file}: [{key}]}}"
        for file, key in dict.fromkeys(wanted)
        if not any(_covers(each, (file, key)) for each in packer.params)
    ]
    if missing:
        raise BundleError(
            f"stage {packer.name!r} does not declare what the bundle is made of",
            where=line.project.relative(packer.file),
            remedy="\n  ".join(["Add to it:", *missing]),
        )


def _covers(declared: tuple[str, str], wanted: tuple[str, str]) -> bool:
    """Whether a declared key, or the whole file, holds the wanted one."""
    return declared[0] == wanted[0] and f"{wanted[1]}.".startswith(
        f"{declared[1]}." if declared[1] else ""
    )


def _text(project: Project, card: str) -> str:
    """Return the text for the card; one line that ends in .md is the path of a file."""
    return _read(project, card).decode() if _is_path(card) else card


def _is_path(card: str) -> bool:
    return card.endswith(".md") and "\n" not in card


def _figures(project: Project, name: str | None) -> Mapping[str, Any] | None:
    import json

    if name is None:
        return None
    try:
        found = json.loads(_read(project, name))
    except ValueError as error:
        raise BundleError(f"is not JSON: {error}", where=name) from error
    if not isinstance(found, Mapping):
        raise BundleError("holds no figures by name", where=name)
    return found


def _read(project: Project, name: str) -> bytes:
    try:
        return (project.root / name).read_bytes()
    except OSError as error:
        raise BundleError(f"cannot be read: {error.strerror}", where=name) from error


def told(project: Project, bundle: Bundle) -> Iterator[str]:
    """Yield what was packed, in a few lines."""
    known = bundle.manifest
    size = sum(len(data) for data in bundle.files.values()) + len(known.canonical)
    yield f"{project.relative(Path(bundle.path))}: {bundle.digest}"
    yield f"  {known.task}, {known.target} of {len(known.features)} features; {size / 1e6:.2f} MB"
    for name, part in (("trained on", known.train), ("to be judged on", known.test)):
        groups = f" of {part.groups:,} groups" if part.groups is not None else ""
        yield f"  {name} {part.rows:,} rows{groups}"
    if known.compilation:
        compared = f"compiled, and compared on {known.compilation.rows:,} rows"
        why = known.compilation.why
        yield f"  scorer: {f'the pipeline itself, because {why}' if why else compared}"
    if known.onnx:
        yield f"  ONNX answers within {known.onnx.max_difference:.1e}"
    if known.marks:
        yield f"  marked {', '.join(known.marks)}: it opens by permission only"
