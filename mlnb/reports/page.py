"""One stage's page: everything a template needs, computed, then the template."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

from mlnb.reports import metrics, safety
from mlnb.reports.executed import Parameter, Run
from mlnb.reports.merge import Merged, Piece, State
from mlnb.reports.outputs import Output, convert
from mlnb.reports.prose import Heading, Prose

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).parent / "templates"
_TITLED = re.compile(r"""\b(?:suptitle|set_title|title)\s*[(=]\s*[rf]?["']([^"'{}\n]+)["']""")
_SHOWN = 16
"""Metrics that a page shows without folding any."""

_HEADLINES = 12
"""Metrics that it shows above the fold if there are more."""


@dataclass(frozen=True)
class Shown:
    """A piece, ready for the template."""

    kind: str
    number: int
    state: State
    html: Markup
    first: str = ""
    lines: int = 0
    outputs: Sequence[Output] = ()


@dataclass(frozen=True)
class Link:
    """A way to another page."""

    name: str
    href: str


@dataclass(frozen=True)
class Surroundings:
    """What a page knows about the others; all may be missing."""

    title: str = ""
    index: str = ""
    before: Link | None = None
    after: Link | None = None


@dataclass(frozen=True)
class Page:
    """A stage's page before it is one."""

    name: str
    title: str
    run: Run
    notice: str
    cells: tuple[Shown, ...]
    headings: tuple[Heading, ...]
    groups: tuple[metrics.Group, ...] = ()
    around: Surroundings = field(default_factory=Surroundings)
    failure: Shown | None = None

    @property
    def values(self) -> list[Parameter]:
        """Parameters that are values; the others are paths and belong to the lineage."""
        return [given for given in self.run.parameters if given.kind == "value"]

    @property
    def paths(self) -> list[tuple[str, str, str, Parameter | None]]:
        """What the run read and wrote: (what, path, digest, its parameter)."""
        named = {str(p.value): p for p in self.run.parameters if p.kind != "value"}
        rows = [("reads", path, digest) for path, digest in sorted(self.run.inputs.items())]
        rows += [("writes", path, digest) for path, digest in sorted(self.run.outputs.items())]
        known = {path for _, path, _ in rows}
        rows += [
            ("reads" if p.kind == "in" else "writes", path, "")
            for path, p in named.items()
            if path not in known
        ]
        return [(what, path, digest, named.get(path)) for what, path, digest in rows]

    @property
    def shown(self) -> tuple[metrics.Group, ...]:
        """The metrics that are seen at once: all of a few, the first of many."""
        if sum(len(group.rows) for group in self.groups) <= _SHOWN:
            return self.groups
        first = self.groups[0]
        return (metrics.Group(first.name, first.rows[:_HEADLINES]),)

    @property
    def folded(self) -> tuple[metrics.Group, ...]:
        """The metrics that are not shown at once."""
        if self.shown == self.groups:
            return ()
        first = self.groups[0]
        rest = first.rows[_HEADLINES:]
        return (*((metrics.Group(first.name, rest),) if rest else ()), *self.groups[1:])

    def render(self) -> str:
        """Return the page as HTML."""
        return template("page.html.j2").render(page=self)


def compose(
    merged: Merged,
    run: Run,
    *,
    name: str,
    title: str,
    folder: Path | None = None,
    root: Path | None = None,
) -> Page:
    """Return the page of a run; relative images are looked for in ``folder``."""
    prose = Prose(folder=folder, root=root)
    cells = tuple(shown for piece in merged.pieces if (shown := _show(piece, prose, run.language)))
    heading = title or prose.title or name
    return Page(name, heading, run, merged.notice, cells, tuple(prose.headings))


def address(name: str) -> str:
    """Return the address of a stage's page, relative to the folder of reports."""
    return quote(f"{name}.html", safe="/@")


def template(name: str) -> jinja2.Template:
    """Return one of the templates beside this module."""
    return _environment().get_template(name)


def describe(code: str, number: int) -> str:
    """Return a figure's alternative text: its title in the code, or the code's first comment."""
    if titled := _TITLED.search(code):
        return titled[1]
    first = code.lstrip().partition("\n")[0]
    comment = first.lstrip("#").strip(" -") if first.startswith("#") else ""
    return comment or f"Output of cell {number}"


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,  # whatever is not marked as safe HTML is text
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    sheet = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    environment.globals.update(policy=safety.POLICY, style=Markup(sheet), address=address)
    environment.filters.update(short=_short, literal=_literal)
    return environment


def _show(piece: Piece, prose: Prose, language: str) -> Shown | None:
    if piece.kind == "prose":
        html = prose.render(piece.text, attachments=piece.attachments)
        return Shown("prose", piece.number, piece.state, html) if html.strip() else None
    lines = piece.text.strip("\n").splitlines()
    return Shown(
        "code",
        piece.number,
        piece.state,
        _highlight("\n".join(lines), language),
        first=next((line for line in lines if line.strip()), "").strip(),
        lines=len(lines),
        outputs=convert(piece.outputs, prose, alt=describe(piece.text, piece.number)),
    )


def _highlight(code: str, language: str) -> Markup:
    from pygments import highlight
    from pygments.formatters.html import HtmlFormatter

    return Markup(highlight(code, _lexer(language), HtmlFormatter(nowrap=True)))


@functools.cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name
    from pygments.lexers.special import TextLexer
    from pygments.util import ClassNotFound

    if language.startswith(("python", "ipython")):
        from ipython_pygments_lexers import IPython3Lexer

        return IPython3Lexer()
    try:
        return get_lexer_by_name(language)
    except ClassNotFound:
        return TextLexer()


def _short(digest: str) -> str:
    """Return the beginning of a digest, enough to tell it from others."""
    return digest.rpartition(":")[2][:12]


def _literal(value: Any) -> str:
    """Return a parameter's value as the notebook would write it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {_literal(v)}" for k, v in value.items()) + "}"
    return repr(value)
