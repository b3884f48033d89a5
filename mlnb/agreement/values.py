"""Values: what params files and matrix give, and what the parameters cell declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlnb import contract as contracts
from mlnb.agreement.case import Case, Disagreement, shown
from mlnb.contract import ABSENT, ContractError, Parameter
from mlnb.edits import Edit, Entry, Value, scalar
from mlnb.errors import did_you_mean
from mlnb.pipeline import PARAMS, Given, PipelineError, content


def given_by(case: Case) -> tuple[dict[str, Given], list[Disagreement]]:
    """Return the values the stage gives, and what is wrong with how it gives them."""
    given: dict[str, Given] = {}
    keys: dict[str, str] = {}
    found: list[Disagreement] = []
    for file, key in case.stage.params:
        part = dataclasses.replace(case.stage, params=((file, key),), item={})
        try:
            values = case.pipeline.given(part)
        except PipelineError as error:
            where = shown(case.project, error.where)
            found.append(Disagreement(error.what, where, error.remedy, "missing-section"))
            continue
        for name, value in values.items():
            inside = isinstance(_at(case.project.root / file, key)[0], Mapping)
            full = f"{file}: " + (f"{key}.{name}".lstrip(".") if inside else key)
            if keys.setdefault(name, full) != full:
                found.append(_ambiguous(case, name, keys[name], full))
            given[name] = value
    names = case.contract.names
    given |= case.pipeline.given(dataclasses.replace(case.stage, params=()), names)
    return given, found


def _ambiguous(case: Case, name: str, first: str, second: str) -> Disagreement:
    return Disagreement(
        f"stage {case.stage.name!r} gets {name!r} twice, from `{first}` and from `{second}`",
        case.where,
        f"Take one of the two out of `params` of stage {case.group!r} in {case.file}.",
        "ambiguous-value",
    )


def given_to_nobody(case: Case, given: Mapping[str, Given]) -> Iterator[Disagreement]:
    """Yield that a notebook without a parameters cell is given values."""
    if given:
        yield Disagreement(
            f"stage {case.stage.name!r} gives {', '.join(given)} to no parameters cell",
            case.in_notebook(),
            "Assign them in one code cell and give it the tag `parameters`.",
            "unknown-parameter",
        )


def of_values(case: Case, given: Mapping[str, Given]) -> Iterator[Disagreement]:
    """Yield each value that is unknown, ill-typed or missing."""
    contract = case.contract
    for name, value in given.items():
        if name not in contract.names:
            yield Disagreement(
                f"{value.origin} gives {name!r} to stage {case.stage.name!r}, whose notebook "
                f"declares no such name.{did_you_mean(name, contract.names)}",
                case.in_notebook(),
                f"Take it out there, or declare it in the parameters cell:\n"
                f"    {name}: {_type_of(value.value)} = {value.value!r}",
                "unknown-parameter",
            )
    for parameter in contract.parameters:
        if parameter.name in given:
            value = given[parameter.name]
            try:
                contracts.check(parameter, value.value, where="", source=value.origin)
            except ContractError as error:
                yield Disagreement(
                    error.what, case.in_notebook(parameter), error.remedy, "wrong-value"
                )
        elif not parameter.is_path or parameter.required:
            yield _not_given(case, parameter)


def _type_of(value: Any) -> str:
    return "str" if value is None else type(value).__name__


def _not_given(case: Case, parameter: Parameter) -> Disagreement:
    file, section, listed = _section(case)
    default = None if parameter.default is ABSENT else _plain(parameter.default)
    value = scalar(default) if parameter.default is not ABSENT else f"...  # {parameter.annotation}"
    line = (
        f"{section}:\n      {parameter.name}: {value}" if section else f"{parameter.name}: {value}"
    )
    remedy = f"Add to {file}:\n    {line}"
    edits: list[Edit] = []
    if not listed:
        remedy += f"\n  and to stage {case.group!r} in {case.file}:\n    params:\n      - {section}"
        edits.append(Entry(case.stage.file, case.group, "params", section))
    if not _holds(case.project.root / file, section, parameter.name):
        edits.append(Value(case.project.root / file, section, parameter.name, default))
    elif listed:
        edits = []
    can = parameter.default is not ABSENT and not (case.is_template and not listed)
    return Disagreement(
        f"parameter {parameter.name!r} gets no value from stage {case.stage.name!r}",
        case.in_notebook(parameter),
        remedy,
        "missing-value",
        tuple(edits) if can and Path(file).suffix in (".yaml", ".yml") else (),
    )


def _section(case: Case) -> tuple[str, str, bool]:
    """Return (params file, section, whether the stage lists it) where the stage's values belong."""
    whole = [
        (file, key) for file, key in case.stage.params if _is_section(case.project.root / file, key)
    ]
    near = [
        pair
        for pair in whole
        if pair[1].rpartition(".")[2] in (case.group, case.contract.notebook.path.stem)
    ]
    if whole:
        return *(near or whole)[0], True
    return case.project.relative(case.stage.wdir / PARAMS), case.group, False


def _is_section(file: Path, key: str) -> bool:
    """Whether ``key`` names a section, or nothing yet."""
    here, found = _at(file, key)
    return not found or here is None or isinstance(here, Mapping)


def _holds(file: Path, section: str, name: str) -> bool:
    return _at(file, f"{section}.{name}" if section else name)[1]


def _at(file: Path, key: str) -> tuple[Any, bool]:
    """Return (what stands at ``key``, whether anything does)."""
    try:
        here = content(file)
    except PipelineError:
        return None, False
    for part in key.split(".") if key else ():
        if not isinstance(here, Mapping) or part not in here:
            return None, False
        here = here[part]
    return here, True


def _plain(value: Any) -> Any:
    """Return a default as YAML holds it."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.as_posix() if isinstance(value, Path) else value
