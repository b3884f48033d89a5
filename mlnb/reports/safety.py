"""What a report lets through: one allow-list, and a policy for the browser as a second wall.

A notebook's outputs and prose are untrusted: a pull request may bring them. :func:`clean` keeps
what a document needs and drops everything that could run, load or cover the page. Should
something slip through all the same, :data:`POLICY` forbids the browser to run or fetch it.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import nh3

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)

PREFIX = "n-"
"""Starts every id that a notebook brings, so that none can pose as one of the page's own."""

_TEXT = """a abbr b blockquote br caption center cite code col colgroup dd del details dfn div dl dt
em figcaption figure h1 h2 h3 h4 h5 h6 hr i img input ins kbd li mark ol p pre q s samp section
small span strong sub summary sup table tbody td tfoot th thead time tr u ul var wbr"""
_SVG = """svg g path rect circle ellipse line polyline polygon text tspan defs linearGradient
radialGradient stop clipPath marker"""
# Left out on purpose: annotation-xml, mglyph and malignmark, where browsers change the parser.
_MATH = """math mrow mi mn mo ms mtext mspace msup msub msubsup mfrac msqrt mroot mover munder
munderover mmultiscripts mprescripts mtable mtr mtd mstyle mpadded mphantom menclose"""
MATHS = frozenset(_MATH.split())
_TAGS = {*_TEXT.split(), *_SVG.split(), *MATHS}

_SILENT = """script style iframe frame object embed applet noscript noembed noframes template
textarea select button audio video canvas xmp plaintext title annotation annotation-xml desc
foreignObject"""
"""Dropped with all they hold; any other unknown tag leaves its text behind."""

_PAINT = """fill fill-opacity fill-rule stroke stroke-width stroke-opacity stroke-dasharray
stroke-linecap stroke-linejoin stroke-miterlimit opacity transform clip-path clip-rule color
font-family font-size font-weight font-style text-anchor dominant-baseline dx dy x y x1 x2 y1 y2
cx cy r rx ry d points offset stop-color stop-opacity gradientUnits gradientTransform
clipPathUnits marker-start marker-mid marker-end markerWidth markerHeight refX refY orient"""
_MATH_LOOK = """accent accentunder columnalign columnspacing depth display displaystyle fence form
height largeop linebreak linethickness lspace mathcolor mathvariant maxsize minsize movablelimits
notation rowspacing rspace scriptlevel separator stretchy symmetric width"""
_ATTRIBUTES: dict[str, set[str]] = {
    "*": {"id", "class", "style", "title", "lang", "dir", "hidden", "role", "aria-label"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "input": {"checked"},
    "ol": {"start", "reversed"},
    "td": {"colspan", "rowspan", "headers", "align", "valign"},
    "th": {"colspan", "rowspan", "headers", "scope", "align", "valign"},
    "tr": {"align", "valign"},
    "col": {"span"},
    "colgroup": {"span"},
    "details": {"open"},
    "time": {"datetime"},
    "svg": {"viewBox", "width", "height", "preserveAspectRatio", *_PAINT.split()},
    **{tag: {"width", "height", *_PAINT.split()} for tag in _SVG.split()[1:]},
    **{tag: set(_MATH_LOOK.split()) for tag in MATHS},
}

_STYLES = """background background-color border border-bottom border-bottom-color
border-bottom-style border-bottom-width border-collapse border-color border-left border-radius
border-right border-spacing border-style border-top border-width caption-side clip-path color
direction display fill fill-opacity font font-family font-size font-style font-variant
font-weight height letter-spacing line-height list-style-type margin margin-bottom margin-left
margin-right margin-top max-width min-width opacity padding padding-bottom padding-left
padding-right padding-top stop-color stroke stroke-dasharray stroke-opacity stroke-width
text-align text-anchor text-decoration text-indent text-transform vertical-align white-space
width word-break word-wrap"""
"""Nothing that could lift an output out of its box and lay it over the page."""

_CLASSES = re.compile(
    r"dataframe|data|blank|index_name|(row|col)_(heading|trim)|(row|col|level)\d+|highlight"
    r"|[a-z][a-z0-9]{0,2}|task-list-item(-checkbox)?|scroll|tex|language-[\w+-]+"
)
"""Classes of pandas, pygments and Markdown; the page's own are not for a notebook to use."""

_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp|avif|svg\+xml);base64,", re.IGNORECASE)
_LINK = re.compile(r"(https?:|mailto:|#)", re.IGNORECASE)
_FUNCTIONS = re.compile(r"([\w-]*)\(")
_HARMLESS = {"rgb", "rgba", "hsl", "hsla", "linear-gradient", "calc", "translate", "rotate"}
_HARMLESS |= {"scale", "matrix", "skewx", "skewy", ""}


def clean(html: str) -> str:
    """Return ``html`` with only what a report may hold; linear in its length."""
    return _cleaner().clean(html)


def clean_styles(css: str) -> str:
    """Return the rules of a pandas Styler's sheet that touch only its own table.

    Every selector must start at the table's id (``#T_…``), which :func:`clean` prefixes in the
    table too. What does not look exactly like a rule of a Styler is left out.
    """
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    rules = []
    for rule in css.split("}"):
        selectors, brace, body = rule.partition("{")
        if not brace:
            continue
        scoped = [_scoped(selector.strip()) for selector in selectors.split(",")]
        pairs = [_declaration(part) for part in body.split(";") if part.strip()]
        kept = [pair for pair in pairs if pair]
        if kept and all(scoped):
            rules.append(f"{','.join(scoped)}{{{';'.join(kept)}}}")
    return "\n".join(rules)


@functools.cache
def _cleaner() -> nh3.Cleaner:
    import nh3

    return nh3.Cleaner(
        tags=_TAGS,
        clean_content_tags=set(_SILENT.split()),
        attributes=_ATTRIBUTES,
        attribute_filter=_attribute,
        # The only control that prose brings is a task list's box; nobody can type into it.
        set_tag_attribute_values={"input": {"type": "checkbox", "disabled": ""}},
        filter_style_properties=set(_STYLES.split()),
        url_schemes={"http", "https", "mailto", "data"},
        url_relative=lambda url: f"#{PREFIX}{url[1:]}" if url.startswith("#") else None,
        id_prefix=PREFIX,
        link_rel="noopener noreferrer",
    )


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Return the value that an attribute may have, or None to drop it."""
    if name == "class":
        return " ".join(word for word in value.split() if _CLASSES.fullmatch(word)) or None
    if name == "href":
        return value if _LINK.match(value.strip()) else None
    if name == "src":
        return value if tag == "img" and _IMAGE.match(value) else None
    if name == "style":
        return value if _harmless(value) else None
    if "(" in value and name in _PAINTS:
        return _paint(value)
    return value


_PAINTS = frozenset(_PAINT.split())


def _paint(value: str) -> str | None:
    """Return an SVG paint whose references stay inside the notebook's own ids."""
    local = re.fullmatch(r"url\(\s*[\"']?#([\w.:-]+)[\"']?\s*\)", value.strip())
    if local:
        name = local[1] if local[1].startswith(PREFIX) else PREFIX + local[1]
        return f"url(#{name})"
    return value if _harmless(value) else None


def _harmless(css: str) -> bool:
    """Return whether ``css`` calls only functions that cannot load anything."""
    if "\\" in css or "@" in css or "<" in css or "/*" in css:
        return False
    return all(name.lower() in _HARMLESS for name in _FUNCTIONS.findall(css))


def _scoped(selector: str) -> str:
    """Return a Styler's selector with the prefixed id, or an empty string."""
    if not re.fullmatch(r"#T_[\w-]+( +[\w.:>()-]+)*", selector):
        return ""
    return f"#{PREFIX}{selector[1:]}"


def _declaration(text: str) -> str:
    name, colon, value = (part.strip() for part in text.partition(":"))
    if not colon or name.lower() not in _STYLES.split() or not _harmless(value) or '"' in value:
        return ""
    return f"{name.lower()}:{value}"
