"""Outputs of a cell to safe HTML: the best of what each offers that needs no script."""

from __future__ import annotations

import base64
import html as markup
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup, escape

from mlnb.imports import quick_imports
from mlnb.reports import maths, safety
from mlnb.reports.prose import Prose, data_url

Kind = Literal["text", "error", "html", "figure", "note", "folded"]

_FOLD = 200
"""Lines of text beyond which an output is folded."""

_COLOURS = 500
"""Colour changes without a reset beyond which colours are dropped; see :func:`coloured`."""

_RASTER = ("image/png", "image/jpeg", "image/gif", "image/webp")
_COLOURFUL = re.compile(r'style="[^"]*(background|color)|<svg\b')


@dataclass(frozen=True)
class Output:
    """One output as a page shows it.

    Attributes:
        kind: how it is framed.
        html: its safe HTML.
        label: what a folded one is called.
        light: it brings colours that were chosen for a white page.
    """

    kind: Kind
    html: Markup
    label: str = ""
    light: bool = False


def convert(outputs: Sequence[Mapping[str, Any]], prose: Prose, *, alt: str) -> list[Output]:
    """Return what a page shows of ``outputs``; ``alt`` describes their figures."""
    return [found for output in joined(outputs) if (found := _convert(output, prose, alt))]


def joined(outputs: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield ``outputs`` with neighbouring pieces of one stream as one."""
    pieces: list[str] = []
    for place, output in enumerate(outputs):
        if output.get("output_type") != "stream":
            yield output
            continue
        pieces.append(_text(output.get("text", "")))
        following = outputs[place + 1] if place + 1 < len(outputs) else {}
        if (following.get("output_type"), following.get("name")) != ("stream", output.get("name")):
            yield {**output, "text": "".join(pieces)}
            pieces = []


def first_figure(outputs: Sequence[Mapping[str, Any]]) -> str:
    """Return the address of the first image among ``outputs``, or an empty string."""
    for output in outputs:
        if found := _image(output.get("data", {})):
            return found
    return ""


def coloured(text: str) -> Markup:
    """Return terminal text as HTML, colours kept.

    nbconvert's converter copies the rest of the text at each colour change. It is given one run
    between resets at a time, so the whole is linear; a run with very many changes loses them.
    """
    with quick_imports():
        from nbconvert.filters.ansi import ansi2html, strip_ansi

    parts = []
    for part in re.split(r"(?<=\x1b\[0m)|(?<=\x1b\[m)", _overwritten(text)):
        many = part.count("\x1b") > _COLOURS
        parts.append(str(escape(strip_ansi(part)) if many else ansi2html(part)))
    return Markup("".join(parts))


def _convert(output: Mapping[str, Any], prose: Prose, alt: str) -> Output | None:
    kind = output.get("output_type")
    if kind == "stream":
        return _terminal(_text(output.get("text", "")), warn=output.get("name") == "stderr")
    if kind == "error":
        traceback = "\n".join(map(str, output.get("traceback", ())))
        brief = f"{output.get('ename', 'Error')}: {output.get('evalue', '')}"
        return Output("error", coloured(traceback or brief))
    return _data(output.get("data", {}), prose, alt)


def _terminal(text: str, *, warn: bool) -> Output | None:
    if not text.strip():
        return None
    lines = text.rstrip("\n").count("\n") + 1
    label = f"{'Standard error' if warn else 'Text'}, {lines} lines"
    return Output("folded" if lines > _FOLD else "text", coloured(text.rstrip("\n")), label)


def _data(data: Mapping[str, Any], prose: Prose, alt: str) -> Output | None:
    """Return the richest form of ``data`` that can be shown.

    HTML that comes with a script is only half of itself without: an image or a telling text is
    the better half (a plot's picture, the text of a scikit-learn estimator).
    """
    html = _text(data.get("text/html", ""))
    image = _image(data)
    plain = _text(data.get("text/plain", ""))
    if html and not (_scripted(html) and (image or _telling(plain))):
        return _html(html) or _left_out("Interactive output", data)
    if image:
        return Output("figure", Markup('<img src="{}" alt="{}">').format(image, alt))
    if markdown := _text(data.get("text/markdown", "")):
        return Output("html", prose.render(markdown, listed=False))
    if latex := _text(data.get("text/latex", "")):
        formula = maths.from_output(latex)
        if formula:
            return Output("html", Markup(safety.clean(formula)))
    if plain or latex:
        return _terminal(plain or latex, warn=False)
    if "application/json" in data:
        text = json.dumps(data["application/json"], indent=2, sort_keys=True)
        return Output("folded", escape(text), "JSON")
    return _left_out(f"Output of type {', '.join(sorted(data))}", data) if data else None


def _html(html: str) -> Output | None:
    """Return HTML without what could run, or None if nothing to see is left of it."""
    styles = "\n".join(filter(None, map(safety.clean_styles, _sheets(html))))
    body = safety.clean(html)
    if not _visible(body):
        return None
    sheet = Markup("<style>{}</style>").format(Markup(styles)) if styles else Markup()
    light = bool(styles or _COLOURFUL.search(body))
    return Output("html", sheet + Markup(body), light=light)


def _sheets(html: str) -> Iterator[str]:
    """Yield the style sheets in ``html``, in one pass: an unclosed one ends the search."""
    lower, end = html.lower(), 0
    while (start := lower.find("<style", end)) >= 0 and (end := lower.find("</style", start)) >= 0:
        yield html[start:end].partition(">")[2]


def _visible(html: str) -> bool:
    if re.search(r"<(img|svg|table|hr|math)\b", html):
        return True
    return bool(markup.unescape(re.sub(r"<[^>]*>", "", html)).strip())


def _scripted(html: str) -> bool:
    return re.search(r"<(script|iframe)\b", html, re.IGNORECASE) is not None


def _telling(plain: str) -> bool:
    """Return whether ``plain`` says more than ``<some.module.Class object>``."""
    return bool(plain.strip()) and not re.match(r"\s*<[\w.]+[^>]*>\s*$", plain)


def _image(data: Mapping[str, Any]) -> str:
    """Return the address of an image as data. In an img element an SVG can neither run nor load."""
    if svg := _text(data.get("image/svg+xml", "")):
        return data_url("image/svg+xml", svg.encode())
    for kind in _RASTER:
        if encoded := _text(data.get(kind, "")):
            try:
                return data_url(kind, base64.b64decode(encoded))
            except ValueError:
                continue
    return ""


def _left_out(what: str, data: Mapping[str, Any]) -> Output:
    plain = _text(data.get("text/plain", ""))
    note = f"{what} left out; open the notebook to use it."
    return Output("note", escape(f"{note} As text: {plain}" if _telling(plain) else note))


def _overwritten(text: str) -> str:
    """Return ``text`` as a terminal ends up showing it: a carriage return starts a line anew."""
    if "\r" not in text:
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _text(value: Any) -> str:
    """Return a multi-line field of the format, a string or a list of strings, as one string."""
    if isinstance(value, str):
        return value
    return "".join(map(str, value)) if isinstance(value, list | tuple) else ""
