"""Reports: prose from the notebook, outputs from the run, and nothing that is not so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from mlnb.errors import MlnbError
from mlnb.reports import StageReport, build, dag, metrics, render, render_failed, render_index
from mlnb.reports.executed import ReportError
from mlnb.reports.safety import clean, clean_styles

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
    "DwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
Cell = dict[str, Any]


def markdown(text: str, **more: Any) -> Cell:
    return {"cell_type": "markdown", "metadata": {}, "source": text, **more}


def code(text: str, *outputs: Any, tags: Iterable[str] = ()) -> Cell:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {"tags": list(tags)},
        "source": text,
        "outputs": list(outputs),
    }


def shown(**data: Any) -> Cell:
    """An output; ``text_html`` stands for ``text/html``."""
    kinds = {kind.replace("_", "/", 1).replace("svg", "svg+xml"): v for kind, v in data.items()}
    return {"output_type": "display_data", "metadata": {}, "data": kinds}


def stream(text: str) -> Cell:
    return {"output_type": "stream", "name": "stdout", "text": text}


def error(name: str = "ValueError", value: str = "bad") -> Cell:
    trace = [f"\x1b[31m{name}\x1b[0m: {value}"]
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": trace}


def parameter(name: str, value: Any, default: Any, **more: Any) -> dict[str, Any]:
    base = {"kind": "value", "type": "float", "help": "", "origin": "params.yaml"}
    return {**base, "name": name, "value": value, "default": default, **more}


def document(cells: Iterable[Cell], **told: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"kernelspec": {"name": "python3", "language": "python"}}
    if told:
        metadata["mlnb"] = {"format": 1, "status": "passed", "cause": "", **told}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(cells)}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def project(
    root: Path,
    cells: Iterable[Cell],
    *,
    ran: Iterable[Cell] | None = None,
    name: str = "train",
    figures: Any = None,
    **told: Any,
) -> StageReport:
    """Write a stage's notebook without outputs and its executed copy; return its record."""
    cells = list(cells)
    bare = [cell if cell["cell_type"] != "code" else {**cell, "outputs": []} for cell in cells]
    if ran is None:
        ran = [
            cell
            for cell in cells
            if cell["cell_type"] == "code" and "dev" not in cell["metadata"]["tags"]
        ]
    source, executed = Path("notebooks/n.ipynb"), Path("reports/executed/n.ipynb")
    write(root / source, document(bare))
    write(root / executed, document(ran, **{"stage": name, "notebook": str(source), **told}))
    if figures is None:
        return StageReport(name, source, executed)
    write(root / "m.json", figures)
    return StageReport(name, source, executed, (Path("m.json"),))


STORY = [
    markdown("# High use\n\nA *story*."),
    code("rate = 0.1", tags=["parameters"]),
    markdown("## Results"),
    code("# Loss by round\nplot()", shown(image_png=PIXEL, text_plain="<Figure size 640x480>")),
]


def test_prose_comes_from_the_source_and_outputs_from_the_run(tmp_path: Path) -> None:
    """Editing prose changes the page without a new run; the first heading is the page's title."""
    report = project(tmp_path, STORY)
    page = render(report, root=tmp_path)
    assert "<h1>High use</h1>" in page and "<em>story</em>" in page and PIXEL in page
    edited = [markdown("# High use\n\nAnother tale."), *STORY[1:]]
    write(tmp_path / report.source, document(edited))
    assert "Another tale." in render(report, root=tmp_path)


def test_the_contents_link_to_the_headings(tmp_path: Path) -> None:
    """Each heading of the prose has a line in the contents, twins included."""
    page = render(project(tmp_path, [*STORY, markdown("## Results\n\n### Slices")]), root=tmp_path)
    for anchor in ("n-Results", "n-Results-2", "n-Slices"):
        assert f'id="{anchor}"' in page and f'href="#{anchor}"' in page


def test_changed_code_is_never_paired_with_old_outputs(tmp_path: Path) -> None:
    """When the code is not what ran, the code that ran stands alone under a notice."""
    report = project(tmp_path, STORY)
    changed = [*STORY[:3], code("another()")]
    write(tmp_path / report.source, document(changed))
    page = render(report, root=tmp_path)
    assert "has changed since this run" in page
    assert "another" not in page and "Loss by round" in page and "<em>story" not in page


@pytest.mark.parametrize("cells", [[*STORY, code("more()")], STORY[:3]])
def test_more_or_fewer_cells_than_ran_are_a_change(tmp_path: Path, cells: list[Cell]) -> None:
    """A passed run must have as many cells as the notebook; else the notice appears."""
    report = project(tmp_path, STORY)
    write(tmp_path / report.source, document(cells))
    assert "has changed since this run" in render(report, root=tmp_path)


def test_dev_cells_are_shown_as_left_out(tmp_path: Path) -> None:
    """A cell tagged dev appears with a mark and does not disturb the merge."""
    cells = [*STORY[:2], code("explore()", stream("secret output"), tags=["dev"]), *STORY[2:]]
    page = render(project(tmp_path, cells), root=tmp_path)
    assert "left out of runs" in page and "explore" in page
    assert "has changed" not in page and "secret output" not in page


def test_the_injected_cell_is_not_shown_as_code(tmp_path: Path) -> None:
    """Values that a run was given are in the table of parameters, marked where they differ."""
    ran = [STORY[1], code("rate = 0.25", tags=["injected-parameters"]), STORY[3]]
    given = [parameter("rate", 0.25, 0.1, help="Shrinkage"), parameter("depth", 3, 3)]
    page = render(project(tmp_path, STORY, ran=ran, parameters=given), root=tmp_path)
    assert "rate = 0.25" not in page and "has changed" not in page
    assert page.count('class="differs"') == 1
    assert "instead of <code>0.1</code>, from params.yaml" in page and "Shrinkage" in page


def test_a_failed_run_shows_its_cause_first(tmp_path: Path) -> None:
    """The cause and the failing cell with its traceback come before everything else."""
    cells = [markdown("# T"), code("load()", stream("loaded")), code("explode()"), code("after()")]
    ran = [cells[1], code("explode()", error("KeyError", "'x'"))]
    told: dict[str, Any] = {
        "status": "failed",
        "cause": "cell 3 raised KeyError: 'x'",
        "failed_cell": 2,
    }
    report = project(tmp_path, cells, ran=ran, **told)
    nb = json.loads((tmp_path / report.executed).read_text())
    page = render_failed(nb, tmp_path / report.source)
    places = [page.index(text) for text in ("cell 3 raised", 'ansi-red-fg">', "loaded", "not run")]
    assert places == sorted(places)
    assert page.count('ansi-red-fg">') == 1
    alone = render_failed(nb, None)
    assert alone.index("cell 3 raised") < alone.index('ansi-red-fg">') < alone.index("loaded")
    assert ">failed</span>" in render(report, root=tmp_path)


def test_metrics_show_value_interval_and_bar(tmp_path: Path) -> None:
    """X, X_low and X_high are one row with the digits the interval leaves meaning to."""
    figures = {"auc": 0.74213, "auc_low": 0.72311, "auc_high": 0.76122, "rows": 3044}
    page = render(project(tmp_path, STORY, figures=figures), root=tmp_path)
    assert "0.742" in page and "0.723 to 0.761" in page and "auc_low" not in page
    assert page.count('class="bar"') == 1 and "3\N{NARROW NO-BREAK SPACE}044" in page


def test_nested_metrics_are_flattened_and_many_are_folded(tmp_path: Path) -> None:
    """Keys of nested objects join with dots; beyond a page's worth they are folded."""
    slices = {f"s{i}": {"auc": 0.5, "auc_low": 0.4, "auc_high": 0.6} for i in range(20)}
    page = render(project(tmp_path, STORY, figures={"auc": 1.0, "slices": slices}), root=tmp_path)
    assert "slices.s7" in page and "Show 20 more" in page


def test_many_metrics_of_one_level_are_folded(tmp_path: Path) -> None:
    """A long flat file shows its first figures and folds the rest; none is lost."""
    figures = {f"figure_{i}": i / 10 for i in range(30)}
    page = render(project(tmp_path, STORY, figures=figures), root=tmp_path)
    assert "Show 18 more" in page and all(page.count(f">{name}<") == 1 for name in figures)


def test_slices_share_one_scale() -> None:
    """Bars of the same figure can be compared: a higher value lies further right."""
    flat = {f"{s}.auc{end}": v + d for s, v in (("a", 0.6), ("b", 0.8))
            for end, d in (("", 0), ("_low", -0.05), ("_high", 0.05))}  # fmt: skip
    a, b = (group.rows[0].bar for group in metrics.grouped(flat))
    assert a and b and a.high < b.low and a.low < a.value < a.high


@pytest.mark.parametrize(
    ("value", "width", "text"),
    [
        (0.74213, 0.04, "0.742"),
        (12, 0, "12"),
        (1234.5, 210.0, "1234"),
        (1.5e-9, 0, "1.5\N{MULTIPLICATION SIGN}10^\N{MINUS SIGN}9"),
        (float("nan"), 0, "not a number"),
        (-0.5, 0, "\N{MINUS SIGN}0.5"),
    ],
)
def test_numbers_are_written_for_people(value: float, width: float, text: str) -> None:
    """Figures carry as many digits as they deserve."""
    assert metrics.number(value, width) == text


@pytest.mark.parametrize("content", ["[1]", "{", '"x"'])
def test_broken_metrics_are_an_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    """A metrics file that is no JSON object stops the report instead of vanishing from it."""
    report = project(tmp_path, STORY, figures={})
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ReportError, match=r"m\.json"):
        render(report, root=tmp_path)


def test_dollars_in_prose_are_not_maths(tmp_path: Path) -> None:
    """Money, code and escaped dollars stay text while formulas become MathML."""
    text = r"$5 and $10, $5-$10, `a$b$c`, \$x\$ but $x^2$ and $$\frac{a}{b}$$"
    page = render(project(tmp_path, [markdown(text)]), root=tmp_path)
    assert "$5 and $10, $5-$10, <code>a$b$c</code>, $x$ but <math" in page
    assert page.count("<math") == 2 and "<mfrac>" in page


@pytest.mark.parametrize("tex", [r"\frac{", r"\nosuch x", r"\text{<b>x</b>}", "{" * 3000])
def test_maths_that_cannot_be_converted_shows_its_source(tmp_path: Path, tex: str) -> None:
    """A formula the converter does not know is shown as the TeX that it is, never half."""
    page = render(project(tmp_path, [markdown(f"so ${tex}$")]), root=tmp_path)
    assert '<code class="tex">' in page and "<math" not in page


def test_aligned_equations_become_columns(tmp_path: Path) -> None:
    """AMS environments, which the converter lacks, are rewritten as arrays."""
    text = "\\begin{align}\na &< b \\\\\nc &= d\n\\end{align}"
    page = render(project(tmp_path, [markdown(text)]), root=tmp_path)
    assert page.count("<mtr>") == 2 and page.count("<mtd") == 4


def test_interactive_output_falls_back(tmp_path: Path) -> None:
    """Output that needs a script is shown as its image, as its text, or as a note."""
    script = "<div id='p'></div><script>draw()</script>"
    page = render(
        project(
            tmp_path,
            [
                code("a()", shown(text_html=script, image_png=PIXEL)),
                code("b()", shown(text_html=script, text_plain="Pipeline(steps=[])")),
                code("c()", shown(text_html=script, text_plain="<x.Html object>")),
                code("d()", {**shown(), "data": {"application/vnd.custom+json": {}}}),
            ],
        ),
        root=tmp_path,
    )
    assert page.count(PIXEL) == 1 and "Pipeline(steps=[])" in page
    assert page.count("Interactive output left out") == 1
    assert "Output of type application/vnd.custom+json left out" in page


def test_a_styler_keeps_its_colours_and_no_more(tmp_path: Path) -> None:
    """Rules of a pandas Styler survive, bound to its own table; everything else goes."""
    sheet = "#T_a_row0_col1 { background-color: #08306b; color: white; }"
    evil = "body { display:none } #T_a { background: url(//evil) } #T_a, p { color: red }"
    html = f'<style>{sheet}{evil}</style><table id="T_a"><td id="T_a_row0_col1">1</td></table>'
    page = render(project(tmp_path, [code("s()", shown(text_html=html))]), root=tmp_path)
    kept = "#n-T_a_row0_col1{background-color:#08306b;color:white}"
    assert f"<style>{kept}</style>" in page and 'id="n-T_a_row0_col1"' in page
    assert clean_styles(evil) == ""


def test_figures_have_a_description(tmp_path: Path) -> None:
    """A figure's text is its title in the code, the first comment, or the cell's number."""
    plot = shown(image_png=PIXEL)
    cells = [code('ax.set_title("ROC & co")', plot), code("# Loss\np()", plot), code("p()", plot)]
    page = render(project(tmp_path, cells), root=tmp_path)
    for alt in ("ROC &amp; co", "Loss", "Output of cell 3"):
        assert f'alt="{alt}"' in page


def test_relative_images_are_embedded_from_inside_the_project_only(tmp_path: Path) -> None:
    """Prose may show an image file of the project; a path out of it is not followed."""
    root = tmp_path / "project"
    report = project(root, [markdown("![in](a.png) ![out](../../out.png)")])
    (root / "notebooks/a.png").write_bytes(b"inside")
    (tmp_path / "out.png").write_bytes(b"outside")
    page = render(report, root=root)
    assert "data:image/png;base64,aW5zaWRl" in page and '<img alt="out">' in page


def test_progress_bars_show_their_last_state(tmp_path: Path) -> None:
    """A carriage return overwrites the line, as in a terminal; neighbouring pieces are one."""
    cell = code("p()", stream("10%\r"), stream("20%\r100%\nnext"))
    page = render(project(tmp_path, [cell]), root=tmp_path)
    assert "100%\nnext" in page and "20%" not in page


def test_long_text_is_folded(tmp_path: Path) -> None:
    """Text of hundreds of lines hides behind its number of lines."""
    page = render(project(tmp_path, [code("p()", stream("line\n" * 500))]), root=tmp_path)
    assert "Text, 500 lines" in page


def test_pages_of_all_stages_link_to_each_other(tmp_path: Path) -> None:
    """Stage names with @ and / become files whose links lead back."""
    base = project(tmp_path, STORY)
    reports = [
        StageReport(name, base.source, base.executed, deps=deps)
        for name, deps in (("sub/train", ()), ("train@gbtree-3", ("sub/train",)))
    ]
    paths = build(reports, root=tmp_path, folder=tmp_path / "out", title="Use", candidate=None)
    out = tmp_path / "out"
    assert paths == [out / "sub/train.html", out / "train@gbtree-3.html", out / "index.html"]
    assert 'href="../train@gbtree-3.html"' in paths[0].read_text()
    assert 'href="../index.html"' in paths[0].read_text()
    assert 'href="sub/train.html"' in paths[1].read_text()
    assert paths[2].read_text().count('href="sub/train.html"') == 2  # the graph and the card


@pytest.mark.parametrize("name", ["../escape", "/absolute", "index", "a/../../b"])
def test_no_page_leaves_the_folder(tmp_path: Path, name: str) -> None:
    """A stage's name cannot make build write elsewhere or replace the front page."""
    base = project(tmp_path, STORY)
    report = StageReport(name, base.source, base.executed)
    with pytest.raises(ReportError, match="no page"):
        build([report], root=tmp_path, folder=tmp_path / "out", title="T")
    assert not (tmp_path / "out").exists()


def test_missing_runs_are_told_together_and_nothing_is_written(tmp_path: Path) -> None:
    """Every stage without an executed copy is named at once, with the command that helps."""
    reports = [StageReport(n, Path("n.ipynb"), Path(f"{n}.ipynb")) for n in ("one", "two")]
    with pytest.raises(MlnbError, match=r"(?s)dvc repro one.*dvc repro two"):
        build(reports, root=tmp_path, folder=tmp_path / "out", title="T")
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    """A copy written by a later version is not guessed at."""
    with pytest.raises(ReportError, match="format 2"):
        render(project(tmp_path, STORY, format=2), root=tmp_path)


def test_the_front_page_tells_candidate_and_figures(tmp_path: Path) -> None:
    """The candidate's facts, each stage's headline figures and first figure are there."""
    report = project(tmp_path, STORY, figures={"auc": 0.7, "auc_low": 0.6, "auc_high": 0.8})
    page = render_index([report], root=tmp_path, title="Use", candidate={"digest": "ab" * 32})
    assert "1 stage: 1 passed" in page and "0.60 to 0.80" in page and PIXEL in page
    assert f'title="{"ab" * 32}"' in page and ">abababababab<" in page


def test_the_graph_runs_from_left_to_right() -> None:
    """Each stage stands right of what it depends on; no two boxes overlap."""
    deps: dict[str, tuple[str, ...]] = {
        "ingest": (), "validate": ("ingest",), "features": ("ingest", "validate"),
        "train": ("features",), "evaluate": ("features", "train", "elsewhere"), "lone": (),
    }  # fmt: skip
    drawing = dag.draw(deps)
    boxes = {box.name: box for box in drawing.boxes}
    for name, upstream in deps.items():
        for source in set(upstream) & set(deps):
            assert boxes[source].x + boxes[source].width < boxes[name].x
    places = {(box.x, box.y) for box in drawing.boxes}
    assert len(places) == len(deps) and len(drawing.lines) == 6
    assert dag.draw({}).boxes == ()


def test_a_circle_of_stages_is_an_error() -> None:
    """Stages that wait for each other are named instead of drawn."""
    with pytest.raises(ReportError, match="circle"):
        dag.draw({"a": ("b",), "b": ("a",)})


def test_links_keep_what_is_safe() -> None:
    """Addresses of the web, of mail and of the page stay; the others lose their target."""
    kept = clean('<a href="https://x.org">a</a><a href="#b">b</a><a href="mailto:c@d.e">c</a>')
    assert kept.count("href=") == 3 and 'rel="noopener noreferrer"' in kept
    lost = '<a href="javascript:x">a</a><a href="data:text/html,x">b</a><a href="//e">c</a>'
    assert "href" not in clean(lost + '<a href="file:///etc/passwd">d</a><a href="x.html">e</a>')


def test_a_report_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Same input, same bytes, whatever the order of Python's sets."""
    told: dict[str, Any] = {"environment": {"python": "3.11", "packages": {"b": "1", "a": "2"}}}
    report = project(tmp_path, [*STORY, code("s()", shown(text_html=_table(1 << 12)))], **told)
    program = (
        "import sys, hashlib; from pathlib import Path; from mlnb.reports import *;"
        f"r = StageReport('train', Path({str(report.source)!r}), Path({str(report.executed)!r}));"
        "paths = build([r], root=Path(sys.argv[1]), folder=Path(sys.argv[1]) / 'out', title='T');"
        "print([hashlib.sha256(p.read_bytes()).hexdigest() for p in paths])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-W", "error", "-c", program, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(found) == 1 and found != {""}


def test_the_front_door_is_light() -> None:
    """Importing mlnb.reports loads no Jupyter library and no template engine."""
    program = (
        "import sys, mlnb.reports;"
        "heavy = {'nbconvert', 'nbformat', 'jinja2', 'nh3', 'mistune', 'pygments', 'latex2mathml'};"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def _table(size: int) -> str:
    """An HTML table as pandas writes it, about ``size`` characters long."""
    row = "<tr>" + "".join(f"<td>{i}.123456</td>" for i in range(10)) + "</tr>"
    return f'<table class="dataframe"><tbody>{row * (size // len(row))}</tbody></table>'


def _styled(size: int) -> str:
    cells = (f'<td id="T_a_row{i}_col0" class="data row{i} col0">1</td>' for i in range(size // 60))
    return f'<table id="T_a">{"".join(cells)}</table>'


@pytest.mark.parametrize(
    "output",
    [
        lambda size: shown(text_html=_table(size)),
        lambda size: shown(text_html=_styled(size)),
        lambda size: shown(text_html="<p>x</p>" + "<style>" * (size // 7)),
        lambda size: shown(text_html="<div>" * 20 + "x" + "<b>" * (size // 400)),
        lambda size: stream("\x1b[31mred\x1b[0m text\n" * (size // 20)),
        lambda size: stream("\x1b[31mred" * (size // 8)),
        lambda size: stream("a\rb" * (size // 3)),
        lambda size: stream("x" * size),
    ],
    ids=["table", "styled", "open-style", "nested", "colours", "no-reset", "returns", "one-line"],
)
def test_time_grows_with_length_and_not_with_its_square(
    tmp_path: Path, output: Callable[[int], Any]
) -> None:
    """Four times the output costs about four times the processor time, not sixteen."""

    def cost(size: int) -> float:
        report = project(tmp_path, [code("x()", output(size))])
        spent = []
        for _ in range(2):
            start = time.process_time()
            render(report, root=tmp_path)
            spent.append(time.process_time() - start)
        return min(spent)

    cost(1 << 10)  # the first page pays for the imports
    assert cost(4 << 20) < 9 * cost(1 << 20) + 0.1
