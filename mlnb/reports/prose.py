"""Prose of a page: Markdown to safe HTML, its title and its table of contents."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mlnb.reports.safety import PREFIX, clean

_IMAGES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Heading:
    """One line of the table of contents."""

    level: int
    text: str
    anchor: str


@dataclass
class Prose:
    """Renders the Markdown of one page and remembers what spans its cells.

    Attributes:
        folder: where relative images of the notebook are found; None embeds none.
        root: images outside of it are not embedded.
        title: the first heading of level 1, which the page shows in its header instead.
        headings: the other headings in the notebook's prose, in order.
    """

    folder: Path | None = None
    root: Path | None = None
    title: str = ""
    headings: list[Heading] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)

    def render(
        self, source: str, *, attachments: Mapping[str, Any] | None = None, listed: bool = True
    ) -> Markup:
        """Return safe HTML of ``source``; ``listed`` headings join the table of contents."""
        from mlnb.reports.dialect import to_html

        return Markup(clean(to_html(self, source, attachments or {}, listed)))

    def heading(self, html: str, level: int, listed: bool) -> str:
        """Return a heading with an anchor of its own, or nothing for the page's title."""
        text = " ".join(Markup(clean(html)).striptags().split())
        if listed and level == 1 and not self.title:
            self.title = text
            return ""
        level = max(level, 2)
        slug = re.sub(r"[^\w.-]+", "-", text).strip("-") or "section"
        self._seen[slug] = number = self._seen.get(slug, 0) + 1
        anchor = slug if number == 1 else f"{slug}-{number}"
        if listed:
            self.headings.append(Heading(level, text, PREFIX + anchor))
        return f'<h{level} id="{anchor}">{html}</h{level}>\n'

    def embed(self, url: str, attachments: Mapping[str, Any]) -> str:
        """Return an image's address as data; of one that is not at hand, the address itself."""
        if url.startswith("attachment:"):
            for kind, data in sorted(attachments.get(url.partition(":")[2], {}).items()):
                return f"data:{kind};base64,{data}"
        if self.folder is None or self.root is None or re.match(r"[a-z+.-]+:|//", url, re.I):
            return url
        path = (self.folder / url).resolve()
        kind = _IMAGES.get(path.suffix.lower(), "")
        if not kind or not path.is_relative_to(self.root.resolve()) or not path.is_file():
            return url
        return data_url(kind, path.read_bytes())


def data_url(kind: str, data: bytes) -> str:
    """Return ``data`` as an address that needs no network."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
