"""Findings about dvc.yaml and params.yaml as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlnb import agreement, pipeline
from mlnb.lint.findings import ERROR, WARNING, Finding, of_error, parse_place
from mlnb.pipeline import Pipeline, PipelineError, covers
from mlnb.project import Project


def unreadable_params(project: Project) -> list[Finding]:
    """Return that params.yaml cannot be read, which DVC would blame on dvc.yaml."""
    file = project.root / pipeline.PARAMS
    try:
        if file.is_file():
            pipeline.content(file)
    except PipelineError as error:
        return [of_error(project, error, "params")]
    return []


def two_writers(lines: Pipeline) -> Iterator[Finding]:
    """Yield each output that two stages write, or that lies in another's."""
    written = [(out.path, stage) for stage in lines.stages for out in stage.outs]
    for number, (path, stage) in enumerate(written):
        for other_path, other in written[:number]:
            if covers(path, other_path) or covers(other_path, path):
                file, _, line = parse_place(agreement.place(lines.project, stage))
                what = f"{path} is written by two stages, {other.name!r} and {stage.name!r}"
                if path != other_path:
                    what = f"{other_path} of {other.name!r} and {path} of {stage.name!r} overlap"
                yield Finding(
                    file,
                    0,
                    line,
                    "two-writers",
                    ERROR,
                    what,
                    "Leave it to one of them; DVC refuses both.",
                )


def litter(lines: Pipeline) -> Iterator[Finding]:
    """Yield that DVC would take what editors and Python leave behind for a change of code."""
    root = lines.project.root
    ignored = root / ".dvcignore"
    known = ignored.read_text(encoding="utf-8").split() if ignored.is_file() else []
    missing = [name for name in agreement.LITTER if name not in {line.strip("/") for line in known}]
    deps = {dep for stage in lines.stages for dep in stage.deps}
    watched = sorted(dep for dep in deps if _holds_code(root / dep))
    if missing and watched:
        yield Finding(
            ".dvcignore",
            0,
            0,
            "litter",
            WARNING,
            f"DVC watches {watched[0]}, and with it {' and '.join(missing)} that appear there",
            "Add to .dvcignore:\n    " + "\n    ".join(missing),
        )


def _holds_code(folder: Path) -> bool:
    """Whether a folder has notebooks or modules right in it."""
    return folder.is_dir() and any(p.suffix in (".py", ".ipynb") for p in folder.iterdir())


def unused_sections(project: Project, lines: Pipeline) -> Iterator[Finding]:
    """Yield each section of params.yaml that has a stage's name and reaches no stage."""
    file = project.root / pipeline.PARAMS
    values = pipeline.content(file) if file.is_file() else {}
    known = {stage.key.partition("@")[0] for stage in lines.stages}
    known |= {stage.notebook.stem for stage in lines.stages if stage.notebook}
    used = {
        key.partition(".")[0]
        for stage in lines.stages
        for name, key in stage.params
        if name == pipeline.PARAMS
    }
    texts = "".join(
        path.read_text(encoding="utf-8") for path in {stage.file for stage in lines.stages}
    )
    for section in values if isinstance(values, Mapping) else ():
        if (
            section in known - used
            and "" not in used
            and not re.search(rf"\$\{{\s*{re.escape(section)}\b", texts)
        ):
            number = _line_of(file.read_text(encoding="utf-8"), str(section))
            yield Finding(
                pipeline.PARAMS,
                0,
                number,
                "unused-section",
                WARNING,
                f"section {section!r} is named like a stage, but no stage depends on it",
                f"Add it to `params` of the stage in dvc.yaml:\n    - {section}",
            )


def _line_of(text: str, key: str) -> int:
    match = re.search(rf"^['\"]?{re.escape(key)}['\"]?\s*:", text, re.MULTILINE)
    return text.count("\n", 0, match.start()) + 1 if match else 0
