"""nbconvert's Markdown with our maths, headings and images.

Importing this module imports nbconvert; only :mod:`mlnb.reports.prose` does, when it renders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from mlnb.imports import quick_imports
from mlnb.reports.maths import mathml

with quick_imports():
    from nbconvert.filters.markdown_mistune import (
        IPythonRenderer,
        MarkdownWithMath,
        MathBlockParser,
        MathInlineParser,
    )

if TYPE_CHECKING:
    from mlnb.reports.prose import Prose

# Dollars are maths as in Pandoc: no space inside of either, no digit after the second. The rule
# "$5 and $10" would match in nbconvert. A body ends at the next dollar, so a search is short, and
# holds no backtick, so that a price before a code span does not reach into it.
_INLINE = r"(?<![\\$])\$(?![\s$])(?P<math_inline_tex>(?:\\.|[^$\\`])+?)(?<![\s\\])\$(?![$\d])"
# At the start of a line only: nbconvert finds it in the middle of code spans too.
_DISPLAY = (
    r"^ {0,3}(?:(?s:\$\$(?!\$).*?(?<!\\)\$\$)"
    r"|(?s:\\\\\[.*?\\\\\])"
    r"|(?s:\\begin\{(?P<math_env_name>[a-z]*\*?)\}.*?\\end\{(?P=math_env_name)\}))"
)


# nbconvert ships no types, hence the ignored bases.
class _Blocks(MathBlockParser):  # type: ignore[misc]
    SPECIFICATION = {**MathBlockParser.SPECIFICATION, "multiline_math": _DISPLAY}  # noqa: RUF012


class _Inlines(MathInlineParser):  # type: ignore[misc]
    SPECIFICATION = {**MathInlineParser.SPECIFICATION, "inline_math_tex": _INLINE}  # noqa: RUF012


class _Renderer(IPythonRenderer):  # type: ignore[misc]
    """Asks the page's :class:`Prose` for what spans more than one cell."""

    def __init__(self, prose: Prose, attachments: Mapping[str, Any], listed: bool) -> None:
        super().__init__(escape=False)
        self.prose, self.listed, self.files = prose, listed, attachments

    def heading(self, text: str, level: int, **_: Any) -> str:
        return self.prose.heading(text, level, self.listed)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        found = self.prose.embed(url, self.files)
        return str(super(IPythonRenderer, self).image(text, found, title))

    def table(self, text: str) -> str:
        return f'<div class="scroll"><table>\n{text}</table></div>\n'

    def block_code(self, code: str, info: str | None = None) -> str:
        # Mermaid diagrams need a script; their text is shown instead.
        if info and info.startswith("mermaid"):
            info = None
        return str(super().block_code(code, info))

    def block_math(self, body: str) -> str:
        return mathml(body.strip(), display=True)

    def inline_math(self, body: str) -> str:
        return mathml(body.strip())

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)

    def safe_url(self, url: str) -> str:
        return escape(url)


def to_html(prose: Prose, source: str, attachments: Mapping[str, Any], listed: bool) -> str:
    """Return ``source`` as HTML that is yet to be cleaned."""
    renderer = _Renderer(prose, attachments, listed)
    parser = MarkdownWithMath(renderer, block=_Blocks(), inline=_Inlines(hard_wrap=False))
    return str(parser.render(re.sub(r"\r\n?", "\n", source)))
