"""TeX to MathML at build time: maths needs no script and no font from anywhere."""

from __future__ import annotations

import functools
import re
from html import escape
from xml.etree import ElementTree

from mlnb.reports.safety import MATHS

_LONGEST = 4000
"""Characters of TeX that are converted; the converter's time is not linear beyond."""

_DELIMITED = re.compile(
    r"\$\$(?P<display>.+)\$\$|\\\[(?P<bracket>.+)\\\]|\$(?P<inline>[^$]+)\$|\\\((?P<paren>.+)\\\)",
    re.DOTALL,
)
_ENVIRONMENT = re.compile(r"\\begin\{([a-z]+\*?)\}(.*)\\end\{\1\}", re.DOTALL)
_COLUMNS = {"align", "aligned", "alignat", "eqnarray", "split", "gather", "gathered", "multline"}


@functools.lru_cache(maxsize=4096)
def mathml(tex: str, *, display: bool = False) -> str:
    """Return ``tex`` as MathML, or as code where it cannot be converted.

    The result still goes through :func:`mlnb.reports.safety.clean`.
    """
    from latex2mathml.converter import convert

    found = ""
    if len(tex) <= _LONGEST:
        try:
            found = convert(_plain(tex), display="block" if display else "inline")
        except Exception:  # noqa: BLE001 - the converter raises whatever its parser trips over
            found = ""
    return found if _whole(found) else f'<code class="tex">{escape(tex)}</code>'


def from_output(latex: str) -> str | None:
    """Return a ``text/latex`` output as MathML, or None if it is more than one formula."""
    latex = latex.strip()
    match = _DELIMITED.fullmatch(latex)
    if match and "$" not in match[0].strip("$"):
        body = next(group for group in match.groups() if group is not None)
        return mathml(body.replace(r"\displaystyle", "").strip(), display=True)
    if _ENVIRONMENT.fullmatch(latex):
        return mathml(latex, display=True)
    return None


def _whole(found: str) -> bool:
    """Return whether ``found`` is maths and all of it.

    The converter copies text through as it is, tags too, and returns a command that it does not
    know by its name.
    """
    try:
        elements = list(ElementTree.fromstring(found).iter())
    except ElementTree.ParseError:
        return False
    return all(
        element.tag.rpartition("}")[2] in MATHS and "\\" not in (element.text or "")
        for element in elements
    )


def _plain(tex: str) -> str:
    """Return ``tex`` with AMS environments as the arrays that the converter knows."""

    def rewrite(match: re.Match[str]) -> str:
        name, body = match[1].rstrip("*"), match[2]
        if name in ("equation", "displaymath", "math"):
            return _plain(body)
        if name in _COLUMNS:
            count = 1 + max(row.count("&") for row in body.split("\\\\"))
            columns = ("rl" * count)[:count] if count > 1 else "c"
            return rf"\begin{{array}}{{{columns}}}{body.strip()}\end{{array}}"
        return match[0]

    return _ENVIRONMENT.sub(rewrite, re.sub(r"\\(label|tag)\{[^{}]*\}|\\nonumber", "", tex)).strip()
