"""A comparison for a terminal, as Markdown or as JSON: the same candidates, the same words."""

from __future__ import annotations

import dataclasses
import datetime
import html
import math
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlnb.comparison.facts import facts
from mlnb.comparison.paired import Difference, paired
from mlnb.comparison.runs import CHAMPION, ComparisonError, Table, goal_of
from mlnb.errors import MlnbError, did_you_mean
from mlnb.project import Project

FORMAT = 1
LAST = 10
"""How many candidates are shown where nobody names any."""
_WORDS = {"pass": "✓ pass", "fail": "✗ fail", "error": "! error", "": "· not judged"}
_COLOURS = {"pass": "green", "fail": "red", "error": "red", "": "dim"}
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_DIGITS = 12


@dataclass(frozen=True)
class View:
    """Which candidates are compared, and in what.

    Attributes:
        table: all candidates.
        rows: those compared, in this order.
        metrics: names of the metrics that are shown.
        params: the same of parameters.
        left_out: how many columns are not shown because all are equal in them.
        differences: of each row from the model in production, by metric.
        unpaired: why a row has no differences, by row.
    """

    table: Table
    rows: Sequence[int]
    metrics: Sequence[str]
    params: Sequence[str]
    left_out: int
    differences: dict[int, dict[str, Difference]] = field(repr=False)
    unpaired: dict[int, str] = field(repr=False)


def view(
    project: Project,
    table: Table,
    names: Sequence[str] = (),
    *,
    every: bool = False,
    metrics: Sequence[str] = (),
    sort: str = "",
    last: int | None = None,
    sweep: str = "",
) -> View:
    """Choose what is compared.

    Args:
        project: whose.
        table: all candidates.
        names: runs as :meth:`Table.find` takes them; else those of ``sweep``, else the last ones
            and the one in production.
        every: also columns in which all are equal, and metrics of slices.
        metrics: only these, by name or by its last part.
        sort: ``started`` (the newest first), ``name``, a metric (the best first) or a parameter
            (the least first); ``-`` before it turns that round. Missing values stay last.
        last: how many of the newest at most.
        sweep: name of a sweep whose trials are meant.

    Raises:
        ComparisonError: no such run or column.
        MlnbError: no such sweep.
    """
    rows = _rows(project, table, names, sweep)
    if last is not None or not (names or sweep):
        rows = rows[-(last or LAST) :]
        if not (names or sweep) and table.champion >= 0 and table.champion not in rows:
            rows = [table.champion, *rows]
    if sort:
        rows = _sorted(table, rows, sort)
    if metrics:
        numbers = [_metric(table, name) for name in metrics]
    else:
        numbers = [name for name, values in table.metrics.items() if _is_there(values, rows)]
        numbers.sort(key=lambda name: not goal_of(name))
        if not every:  # those of slices are many: who wants them asks
            numbers = [name for name in numbers if name.count(".") < 2]
    params = [name for name, values in table.params.items() if _is_there(values, rows)]
    left_out = 0
    if not every and len(rows) > 1:
        before = len(numbers) + len(params)
        params = [name for name in params if _differ(table.params[name], rows)]
        if not metrics:
            numbers = [name for name in numbers if _differ(table.metrics[name], rows)]
        left_out = before - len(numbers) - len(params)
    differences, unpaired = _differences(project, table, rows)
    return View(table, rows, list(dict.fromkeys(numbers)), params, left_out, differences, unpaired)


def document(project: Project, shown: View) -> dict[str, Any]:
    """Return a comparison as JSON holds it."""
    table = shown.table
    return {
        "format": FORMAT,
        "champion": table.runs.ids[table.champion] if table.champion >= 0 else None,
        "goals": {name: goal_of(name) for name in shown.metrics},
        "environments": [dataclasses.asdict(place) for place in table.places],
        "left_out": shown.left_out,
        "problems": list(table.problems),
        "runs": [_run(project, shown, row) for row in shown.rows],
    }


def draw(shown: View) -> None:
    """Print a comparison as a table; the best of a column is bold and has a star."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    if not shown.rows:
        print("no run yet; `dvc repro` makes one where dvc.yaml has an `mlnb track` stage")
        return
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for name, is_number in _heads(shown):
        grid.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for row in shown.rows:
        grid.add_row(*(Text(c.text + " *" * c.best, c.style) for c in _cells(shown, row)))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 10_000  # a program reads it: no line is folded
    console.print(grid)
    for line in _notes(shown):
        console.print(Text(line, "dim"), soft_wrap=True)


def markdown(shown: View) -> str:
    """Return a comparison as a table of Markdown; the best of a column is bold."""
    if not shown.rows:
        return "No run yet.\n"
    heads = _heads(shown)
    lines = [[_escaped(name) for name, _ in heads], ["---:" if n else "---" for _, n in heads]]
    for row in shown.rows:
        cells = [(_escaped(cell.text), cell.best) for cell in _cells(shown, row)]
        lines.append([f"**{text}**" if best else text for text, best in cells])
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return text + "".join(f"\n{_escaped(line)}\n" for line in _notes(shown))


def text_of(changes: Sequence[dict[str, Any]], *, fenced: bool = False) -> str:
    """Return what differs between two runs as text; in colours if a terminal shows it.

    Args:
        changes: as :func:`mlnb.comparison.changes` returns them.
        fenced: as a block of code in Markdown.
    """
    colours = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}
    if fenced or not sys.stdout.isatty():
        colours = {}
    lines = []
    for each in changes:
        lines.append(f"=== {visible(each['name'])}")
        for line in each["lines"]:
            code = colours.get(line[:1], "")
            lines.append(f"{code}{visible(line)}\x1b[0m" if code else visible(line))
    text = "".join(f"{line}\n" for line in lines) or "nothing but the figures differs\n"
    if not fenced:
        return text
    # A fence is longer than any in what it holds.
    fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", text))])
    return f"{fence}diff\n{text}{fence}\n"


def visible(text: str) -> str:
    """Return text that moves no cursor and turns no direction: such characters as escapes."""
    return "".join(
        ascii(each)[1:-1] if each in _TURNS or unicodedata.category(each) in ("Cc", "Cs") else each
        for each in text
    )


# --- what is drawn ----------------------------------------------------------------------------


class Cell(NamedTuple):
    """What stands in one row of a column."""

    text: str
    style: str = ""
    best: bool = False


def _heads(shown: View) -> list[tuple[str, bool]]:
    """Return the names of the columns, and whether numbers stand there."""
    before = [(name, False) for name in ("run", "runs in", "verdict")]
    middle = [(visible(name), True) for name in (*shown.metrics, *shown.params)]
    return [*before, *middle, ("commit", False), ("started", False)]


def _cells(shown: View, row: int) -> list[Cell]:
    table = shown.table
    tags = table.runs.row(row, "tag")
    places = ", ".join(f"{each.environment} v{each.version}" for each in table.places_of(row))
    verdict = table.verdicts[row]
    commit = str(tags.get("mlflow.source.git.commit", ""))[:_DIGITS]
    dirty = "+changes" if commit and tags.get("mlnb.git.dirty") == "true" else ""
    at = datetime.datetime.fromtimestamp(table.runs.started[row], datetime.UTC)
    return [
        Cell(visible(_name(table, row))),
        Cell(places),
        Cell(_WORDS[verdict], _COLOURS[verdict]),
        *(_number(shown, row, name) for name in shown.metrics),
        *(Cell(visible(_text(table.params[name][row]))) for name in shown.params),
        Cell(visible(commit) + dirty),
        Cell(f"{at:%Y-%m-%d %H:%M}Z"),
    ]


def _number(shown: View, row: int, name: str) -> Cell:
    values = shown.table.metrics[name]
    goal = goal_of(name)
    rivals = [value for each in shown.rows if (value := values[each]) is not None]
    best = bool(goal) and len(set(rivals)) > 1
    best = best and values[row] == (max if goal == "max" else min)(rivals)
    told = shown.differences.get(row, {}).get(name)
    text = _text(values[row]) + (f" {_difference(told, goal)}" if told else "")
    return Cell(text, "bold" if best else "", best)


def _difference(told: Difference, goal: str) -> str:
    mark = ""
    if goal:
        up, down = ("▲ ", "▼ ") if goal == "max" else ("▼ ", "▲ ")
        mark = up if told.low > 0 else down if told.high < 0 else "≈ "
    return f"({mark}{told.by:+.3g} [{told.low:+.3g}, {told.high:+.3g}])"


def _notes(shown: View) -> Iterator[str]:
    if shown.left_out:
        yield f"{shown.left_out} columns in which all are equal are left out; --all shows them."
    if shown.differences:
        yield (
            f"In brackets: the difference from {CHAMPION} on the same rows with its bounds;"
            " ▲ better, ▼ worse, ≈ neither was shown."
        )
    for why in dict.fromkeys(shown.unpaired.values()):
        yield f"No difference from {CHAMPION}: {visible(why)}."
    yield from map(visible, shown.table.problems)


def _run(project: Project, shown: View, row: int) -> dict[str, Any]:
    table = shown.table
    runs = table.runs
    tags = runs.row(row, "tag")
    differences = shown.differences.get(row, {})
    return {
        "run": runs.ids[row],
        "name": runs.names[row],
        "candidate": runs.digests[row],
        "started": datetime.datetime.fromtimestamp(runs.started[row], datetime.UTC).isoformat(),
        "by": tags.get("mlflow.user", ""),
        "commit": tags.get("mlflow.source.git.commit", ""),
        "branch": tags.get("mlflow.source.git.branch", ""),
        "changed": tags.get("mlnb.git.dirty") == "true",
        "data": table.data_of(row),
        "verdict": table.verdicts[row],
        "gates": facts(project, table, row)["gates"],
        "runs_in": {place.environment: place.version for place in table.places_of(row)},
        "metrics": {name: _plain(table.metrics[name][row]) for name in shown.metrics},
        "params": {name: _plain(table.params[name][row]) for name in shown.params},
        "differences": {name: each._asdict() for name, each in differences.items()},
        "unpaired": shown.unpaired.get(row, ""),
    }


# --- which rows and columns -------------------------------------------------------------------


def _rows(project: Project, table: Table, names: Sequence[str], sweep: str) -> list[int]:
    if names:
        return list(dict.fromkeys(table.find(name) for name in names))
    rows = list(range(len(table.runs.ids)))
    if not sweep:
        return rows
    from mlnb import sweep as sweeps

    ids = {trial.run for trial in sweeps.read(sweeps.path_of(project, sweep)).trials()}
    return [row for row in rows if table.runs.ids[row] in ids]


def _sorted(table: Table, rows: Sequence[int], wanted: str) -> list[int]:
    name = wanted.removeprefix("-")
    plain: dict[str, Sequence[Any]] = {"name": table.runs.names, "started": table.runs.started}
    values: Sequence[Any]  # of one kind: numbers, or text
    if name in plain:
        values, down = plain[name], name == "started"
    elif name in table.params:
        values, down = table.params[name], False
    else:
        name = _metric(table, name)
        values, down = table.metrics[name], goal_of(name) == "max"
    there = [row for row in rows if not _is_missing(values[row])]
    order: dict[int, Any] = {row: values[row] for row in there}
    there.sort(key=order.__getitem__, reverse=down != wanted.startswith("-"))
    return [*there, *(row for row in rows if _is_missing(values[row]))]


def _metric(table: Table, name: str) -> str:
    ends = [n for n in table.metrics if n.rpartition(".")[2] == name and n.count(".") < 2]
    meant = [name] if name in table.metrics else ends
    if len(meant) > 1:
        raise ComparisonError(f"{name!r} may be {' or '.join(meant)}")
    if not meant:
        raise ComparisonError(
            f"no column {name!r}.{did_you_mean(name, [*table.metrics, *table.params])}",
            remedy="`mlnb compare --all` shows all metrics and parameters.",
        )
    return meant[0]


def _differences(
    project: Project, table: Table, rows: Sequence[int]
) -> tuple[dict[int, dict[str, Difference]], dict[int, str]]:
    found: dict[int, dict[str, Difference]] = {}
    without: dict[int, str] = {}
    champion = table.champion
    for row in rows if champion >= 0 else ():
        if row == champion:
            continue
        try:
            told = paired(project, table.runs.ids[row], table.runs.ids[champion])
        except MlnbError as error:
            without[row] = error.what
            continue
        # STAGE.METRIC is of all rows; STAGE.SLICE.METRIC is not.
        found[row] = {
            name: told[end]
            for name in table.metrics
            if name.count(".") == 1 and (end := name.rpartition(".")[2]) in told
        }
    return found, without


def _is_there(values: Sequence[Any], rows: Sequence[int]) -> bool:
    return any(values[row] is not None for row in rows)


def _differ(values: Sequence[Any], rows: Sequence[int]) -> bool:
    return len({repr(values[row]) for row in rows}) > 1


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


# --- words ------------------------------------------------------------------------------------


def _name(table: Table, row: int) -> str:
    """Return what a person types to mean a run, after its name if it has one of its own."""
    digest, name = table.runs.digests[row], table.runs.names[row].removeprefix("candidate ")
    short = digest[:_DIGITS]
    return short if digest.startswith(name) else f"{short} {name}"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it; NaN and infinity, which it cannot, as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _escaped(text: str) -> str:
    """Return text that is nothing but text in a table of Markdown."""
    plain = html.escape(visible(text), quote=False)
    return "".join(f"\\{each}" if each in "\\|*_`[]~#" else each for each in plain)
