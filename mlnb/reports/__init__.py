"""Reports: an executed notebook as one HTML page that needs nothing else and runs nothing.

The way of a page, a file for each step:

* ``executed`` reads a run's copy: outputs, parameters, lineage, verdict;
* ``merge`` puts the outputs under the cells of the notebook, which owns the prose;
* ``prose`` (with ``dialect`` and ``maths``) and ``outputs`` turn both into HTML, ``metrics``
  figures into rows; ``safety`` decides what may stay;
* ``page`` and ``index`` (with ``dag``) fill the templates.

Pages are self-contained and deterministic: no script, no address outside, no time of day. Use
:func:`build` for all of them; the rest are its parts, and :func:`render_failed` for a run that
did not finish.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlnb.gates import Judgement
    from mlnb.reports.merge import Merged
    from mlnb.reports.page import Page, Surroundings

__all__ = ["StageReport", "build", "render", "render_failed", "render_index", "warm"]


@dataclass(frozen=True)
class StageReport:
    """A stage of the pipeline, as reports need it. Relative paths are relative to the root.

    Attributes:
        name: the stage: ``train``, ``train@gbtree-3``, ``sub/train``.
        source: its notebook.
        executed: the executed copy.
        metrics: its metrics files.
        deps: names of the stages that it depends on.
        title: shown instead of the notebook's first heading.
    """

    name: str
    source: Path
    executed: Path
    metrics: tuple[Path, ...] = ()
    deps: tuple[str, ...] = ()
    title: str = ""


def render(report: StageReport, *, root: Path) -> str:
    """Return the page of one stage, without links to its neighbours.

    Raises:
        ReportError: the executed copy or a metrics file is missing or not readable.
        NotebookError: a notebook is damaged.
    """
    return _page(report, root)[0].render()


def render_index(
    reports: Sequence[StageReport],
    *,
    root: Path,
    title: str,
    candidate: Mapping[str, Any] | None = None,
    judgement: Judgement | None = None,
) -> str:
    """Return the front page of ``reports``.

    ``candidate`` says which state of the project it is, and ``judgement`` what the gates say of it.

    Raises:
        MlnbError: what :func:`render` raises, for all stages together.
    """
    return _index(reports, _pages(reports, root), title, candidate, judgement)


def build(
    reports: Sequence[StageReport],
    *,
    root: Path,
    folder: Path,
    title: str,
    candidate: Mapping[str, Any] | None = None,
    judgement: Judgement | None = None,
) -> list[Path]:
    """Write ``folder/STAGE.html`` for each report and ``folder/index.html``; return their paths.

    Nothing is written unless every page could be rendered.

    Raises:
        MlnbError: what :func:`render` raises, for all stages together.
    """
    from mlnb.files import write_text

    pages = _pages(reports, root)
    written = {}
    for place, (page, _) in enumerate(pages):
        around = _around([report.name for report in reports], place, title)
        text = dataclasses.replace(page, around=around).render()
        written[folder / f"{_checked(page.name)}.html"] = text
    written[folder / "index.html"] = _index(reports, pages, title, candidate, judgement)
    for path, text in written.items():
        write_text(path, text)
    return list(written)


def render_failed(executed_nb: Mapping[str, Any], source: Path | None) -> str:
    """Return the report of a run that failed: the cause and the failing cell, then the rest.

    Args:
        executed_nb: what there is of the executed notebook.
        source: its notebook; None if it is not at hand.
    """
    from mlnb.reports.executed import parse
    from mlnb.reports.merge import merge
    from mlnb.reports.page import compose

    run = parse(executed_nb)
    run = dataclasses.replace(run, status="failed", cause=run.cause or "The run did not finish.")
    page = compose(merge(source, run), run, name=run.stage or "notebook", title="")
    failure = next((cell for cell in page.cells if cell.state == "failed"), None)
    return dataclasses.replace(page, failure=failure).render()


def warm() -> None:
    """Render something small, so that templates, lexers and their patterns are compiled."""
    from mlnb.reports.page import template

    code = {"cell_type": "code", "source": "x = f'{1:d}'  # one", "outputs": [], "metadata": {}}
    render_failed({"cells": [code], "metadata": {}}, None)
    template("index.html.j2")


def _pages(reports: Sequence[StageReport], root: Path) -> list[tuple[Page, Merged]]:
    from mlnb.errors import MlnbError

    pages, errors = [], []
    for report in reports:
        try:
            pages.append(_page(report, root))
        except MlnbError as error:
            errors.append(error)
    if errors:
        raise MlnbError.join(errors)
    return pages


def _page(report: StageReport, root: Path) -> tuple[Page, Merged]:
    from mlnb.reports import executed, metrics
    from mlnb.reports.merge import merge
    from mlnb.reports.page import compose

    run = executed.read(root / report.executed, stage=report.name)
    source = root / report.source
    merged = merge(source, run)
    page = compose(
        merged, run, name=report.name, title=report.title, folder=source.parent, root=root
    )
    groups = metrics.read(report.metrics, root=root)
    return dataclasses.replace(page, groups=groups), merged


def _index(
    reports: Sequence[StageReport],
    pages: Sequence[tuple[Page, Merged]],
    title: str,
    candidate: Mapping[str, Any] | None,
    judgement: Judgement | None,
) -> str:
    from mlnb.reports import index

    deps = {report.name: report.deps for report in reports}
    cards = [index.card(page, merged) for page, merged in pages]
    return index.render(cards, deps, title=title, candidate=candidate, judgement=judgement)


def _around(names: Sequence[str], place: int, title: str) -> Surroundings:
    """Return the links of the page at ``place``, relative to its own folder."""
    from mlnb.reports.page import Link, Surroundings, address

    up = "../" * names[place].count("/")
    before = names[place - 1] if place else ""
    after = names[place + 1] if place + 1 < len(names) else ""
    return Surroundings(
        title,
        f"{up}index.html",
        Link(before, up + address(before)) if before else None,
        Link(after, up + address(after)) if after else None,
    )


def _checked(name: str) -> str:
    """Return a stage's name if its page stays inside the folder of reports."""
    from mlnb.reports.executed import ReportError

    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name or name == "index":
        raise ReportError(
            f"no page can be named after stage {name!r}", remedy="Rename the stage in dvc.yaml."
        )
    return name
