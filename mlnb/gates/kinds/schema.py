"""The test rows fit a pandera schema."""

from __future__ import annotations

import warnings

from mlnb.gates.evidence import Evidence
from mlnb.gates.kinds import Found
from mlnb.gates.language import Schema
from mlnb.gates.verdicts import Finding, GateError


def asks(rule: Schema) -> str:
    """Return the rule in words."""
    return f"rows fit {rule.file}"


def judge(rule: Schema, evidence: Evidence) -> Found:
    """Return what does not fit, one finding for each column and check; all are run."""
    try:
        import pandera.pandas as pandera
    except ImportError as error:
        raise GateError("a schema needs pandera", remedy="pip install 'pandera[io]'") from error
    path = evidence.root / rule.file
    if not path.is_file():
        raise GateError("no such file", where=rule.file)
    try:
        with warnings.catch_warnings(action="ignore"):
            schema = pandera.DataFrameSchema.from_yaml(path)
    except Exception as error:  # whatever a file that is no schema provokes
        raise GateError(f"is no pandera schema: {error}", where=rule.file) from error
    rows = evidence.rows.reset_index(drop=True)
    try:
        schema.validate(rows, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases.astype("str")
        grouped = cases.groupby(["column", "check"], sort=True, dropna=False)["failure_case"]
        return [
            Finding(str(column), "fail", f"{check}: {len(found)} cells, such as {found.iloc[0]}")
            for (column, check), found in grouped
        ], []
    except Exception as error:  # pandera's own failures are no pass
        raise GateError(f"cannot be checked: {error}", where=rule.file) from error
    words = f"{len(rows):,} rows, {len(schema.columns)} columns"
    return [Finding("all rows", "pass", words, rows=len(rows))], []
