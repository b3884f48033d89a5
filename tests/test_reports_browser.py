"""Reports in a real browser: nothing runs, nothing loads, nothing is lost, and it fits."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_reports import PIXEL, code, document, error, markdown, parameter, project, shown, stream

from mlnb.reports import render, render_failed, render_index
from mlnb.reports.safety import POLICY

# Without Chromium these tests fail rather than pass unseen; `make test` installs it.
CHROMIUM = shutil.which("chromium") or "chromium"

# FIRE sets a property of the window that is named after the vector; NET is an address to be called.
VECTORS = [
    "<script>FIRE</script>",
    "<script src='NET'></script>",
    "<ScRiPt >FIRE</sCrIpT>",
    "<img src=x onerror=FIRE>",
    "<img src='NET'>",
    "<img srcset='NET 1x'>",
    "<svg onload=FIRE></svg>",
    "<svg><script>FIRE</script></svg>",
    "<svg><foreignObject><img src=x onerror=FIRE></foreignObject></svg>",
    "<svg><animate onbegin=FIRE attributeName=x dur=1s></svg>",
    "<svg><image href='NET'/><use href='data:image/svg+xml;base64,PHN2Zy8+#x'/></svg>",
    "<svg><a xlink:href='javascript:FIRE'><text y=20 class=hit>x</text></a></svg>",
    "<svg><set attributeName=onmouseover to=FIRE /><rect width=9 height=9 class=hit /></svg>",
    "<svg><rect width=9 height=9 fill='url(NET#a)' style='mask:url(NET#b)'/></svg>",
    "<a class=hit href='javascript:FIRE'>x</a>",
    "<a class=hit href='  java\tscript:FIRE'>x</a>",
    "<a class=hit href='data:text/html,<script>FIRE</script>'>x</a>",
    "<a class=hit href='#x' onclick=FIRE>x</a>",
    "<a class=hit href='vbscript:FIRE' ping='NET'>x</a>",
    "<iframe srcdoc='<script>parent.FIRE</script>'></iframe>",
    "<iframe src='javascript:parent.FIRE'></iframe>",
    "<iframe src='NET'></iframe>",
    "<object data='NET'></object><embed src='NET'>",
    "<object data='javascript:FIRE'></object>",
    "<base href='NET'><img src='relative.png'>",
    "<meta http-equiv=refresh content='0;url=NET'>",
    "<link rel=stylesheet href='NET'><link rel=prefetch href='NET'>",
    "<style>@import 'NET'; body{background:url(NET)}</style>",
    "<style>#T_a{background:url(NET)}#T_a{background-image:u\\72l(NET)}</style><p id=T_a>x</p>",
    "<p style='background:url(NET)'>x</p>",
    "<p style='background:u\\72l(NET);list-style-image:image-set(\"NET\" 1x)'>x</p>",
    "<form action='NET'><button class=hit>x</button><input class=hit type=submit></form>",
    "<button class=hit onclick=FIRE>x</button>",
    "<input autofocus onfocus=FIRE>",
    "<details open ontoggle=FIRE><summary>x</summary></details>",
    "<video src='NET' onerror=FIRE></video><audio src='NET'></audio>",
    "<body onload=FIRE><div onmouseover=FIRE class=hit>x</div>",
    "<marquee onstart=FIRE>x</marquee>",
    "<div onpointerenter=FIRE style='position:fixed;inset:0' class=hit>x</div>",
    "<template><script>FIRE</script></template><portal src='NET'></portal>",
    "<noscript><p title='</noscript><img src=x onerror=FIRE>'></noscript>",
    "<math><mtext><table><mglyph><style><!--</style><p title='--&gt;&lt;img src onerror=FIRE&gt;'>",
    "<math><mi><style><a title='</style><img src=x onerror=FIRE>'></a></style></mi></math>",
    "<svg></p><style><a id='</style><img src=1 onerror=FIRE>'>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=FIRE>",
    "<p title='<table onerror=FIRE><img src=x onerror=FIRE>'>x</p>",
    "<xmp><p></xmp><img src=x onerror=FIRE>",
    "<!--><img src=x onerror=FIRE>-->",
    "<textarea></textarea><img src=x onerror=FIRE>",
    "<table background='NET'><td background='NET'>x</table>",
    "<div id=main name=main>x</div><p class='skip hit'>x</p><a id=show-code>x</a>",
]
MARKDOWN = [
    "[x](javascript:FIRE)",
    "[x]( java&#x73;cript:FIRE)",
    "![x](NET)",
    '![x" onerror=FIRE](x)',
    "[x](#ok 'a\" onclick=FIRE \"')",
    "<javascript:FIRE>",
    "$\\href{javascript:FIRE}{x}$ $\\text{<img src=x onerror=FIRE>}$",
    "$$\\class{x}{y}</math><script>FIRE</script>$$",
    "```html\n</code></pre><script>FIRE</script>\n```",
    '``` "><script>FIRE</script>\nx\n```',
    "# Title <img src=x onerror=FIRE>",
    '## <script>FIRE</script> Heading "><img src=x onerror=FIRE>',
    "![$\\text{ onerror=FIRE }$](x)",
]
TEXT = "</title></style></script></pre>\"'><img src=x onerror=FIRE><script>FIRE</script>"
NET = "https://beacon.example/"


class Armed:
    """Numbers vectors, so that what fires says which one it was."""

    def __init__(self) -> None:
        self.fired: list[str] = []

    def __call__(self, vector: str) -> str:
        number = len(self.fired)
        self.fired.append(vector)
        return vector.replace("FIRE", f"window.f{number}=1").replace("NET", f"{NET}{number}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--no-first-run", *quiet]
        )
        yield launched
        launched.close()


@dataclasses.dataclass
class Seen:
    """What a page did: numbers of the vectors that fired, addresses it called, where it ended."""

    fired: list[int]
    called: list[str]
    address: str


class Window:
    """A browser window whose requests are answered with a refusal and remembered."""

    def __init__(self, browser: Any) -> None:
        self.context = browser.new_context()
        self.called: list[str] = []
        self.context.route(lambda url: url.startswith(NET), self._refuse)

    def _refuse(self, route: Any) -> None:
        self.called.append(route.request.url)
        route.abort()

    def visit(self, path: Path, html: str) -> Seen:
        """Open ``html``, click and hover all that a vector offers, and tell what happened."""
        from playwright.sync_api import Error

        path.write_text(html, encoding="utf-8")
        self.called.clear()
        fired: list[int] = []
        page = self.context.new_page()  # a vector's late navigation must not meet the next visit
        page.goto(path.as_uri(), wait_until="load")
        with contextlib.suppress(Error):  # the page has gone elsewhere: its address tells
            page.evaluate(TOUCH)
            page.wait_for_timeout(100)
            fired = page.evaluate(FIRED)
        seen = Seen(sorted(fired), list(self.called), page.url.partition("#")[0])
        page.close()
        return seen


TOUCH = """() => {
  for (const e of document.querySelectorAll('main *, body > *'))
    for (const kind of ['mouseover', 'pointerenter', 'focus', 'toggle', 'click'])
      if (kind !== 'click' || e.matches('.hit, button, :is(.prose, .rich) a:not([href^=http])'))
        e.dispatchEvent(new MouseEvent(kind, {bubbles: true, cancelable: true}));
}"""
FIRED = r"Object.keys(window).filter(k => /^f\d+$/.test(k)).map(k => +k.slice(1))"


def attacked(root: Path, arm: Armed) -> dict[str, str]:
    """Return pages of each kind with an attack wherever a notebook can bring text."""
    html = [arm(vector) for vector in VECTORS]
    prose = [arm(vector) for vector in MARKDOWN]
    cells = [
        markdown(arm("# Title <img src=x onerror=FIRE> $\\text{</h1><script>FIRE</script>}$")),
        *(markdown(vector) for vector in [*html, *prose]),
        *(code("f()", shown(text_html=vector)) for vector in html),
        *(code("f()", shown(text_markdown=vector)) for vector in [*html, *prose]),
        *(code("f()", shown(text_latex=arm(v))) for v in (TEXT, "$\\href{javascript:FIRE}{x}$")),
        *(code("f()", shown(**{kind: arm(TEXT)})) for kind in ("text_plain", "image_png")),
        code("f()", shown(image_svg=arm("<svg xmlns='http://www.w3.org/2000/svg' onload='FIRE'>"))),
        code("f()", shown(application_javascript=arm("FIRE"), text_plain=arm(TEXT))),
        code(arm(f"# {TEXT}"), shown(image_png=PIXEL), stream(arm(f"\x1b[31m{TEXT}\x1b[0m"))),
        code(f'title("{arm(TEXT)}")', shown(image_png=PIXEL)),
        markdown("![a](attachment:a)", attachments={"a": {arm('image/png"onerror=FIRE'): "x"}}),
        code("g()", error(arm(TEXT), arm(TEXT))),
    ]
    told: dict[str, Any] = {
        "cause": arm(TEXT),
        "code": arm(TEXT),
        "status": "failed",
        "failed_cell": len(cells) - 1,
        "inputs": {arm(TEXT): arm(TEXT)},
        "environment": {"python": arm(TEXT), "packages": {arm(TEXT): arm(TEXT)}},
        "parameters": [
            parameter(
                arm(TEXT), arm(TEXT), arm(TEXT), help=arm(TEXT), type=arm(TEXT), origin=arm(TEXT)
            ),
            parameter(arm(TEXT), arm(TEXT), "", kind="in", help=arm(TEXT)),
        ],
    }
    figures = {arm(TEXT): 1, "g": {arm(TEXT): arm(TEXT)}}
    name = arm(TEXT)
    report = project(root, cells, name=name, figures=figures, **told)
    ran = json.loads((root / report.executed).read_text())
    candidate = {arm(TEXT): arm(TEXT)}
    return {
        "page": render(report, root=root),
        "index": render_index([report], root=root, title=arm(TEXT), candidate=candidate),
        "failed": render_failed(ran, root / report.source),
        "alone": render_failed(ran, None),
    }


def test_the_beacons_work(browser: Any, tmp_path: Path) -> None:
    """Unprotected, the same attacks run and call out: silence elsewhere means something."""
    arm, window = Armed(), Window(browser)
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    ran = called = 0
    for vector in VECTORS:
        body = f"<main>{arm(vector)}</main>"
        bare = window.visit(tmp_path / "bare.html", f"<!doctype html>{body}")
        called += bool(bare.called)
        if bare.fired:
            ran += 1
            guarded = window.visit(tmp_path / "guarded.html", f"<!doctype html>{policy}{body}")
            assert not guarded.fired, f"the policy alone lets this run: {vector}"
    assert ran >= 18 and called >= 10, (ran, called)


@pytest.mark.parametrize("guard", ["with its policy", "sanitizer alone"])
def test_no_attack_runs_or_calls_out(browser: Any, tmp_path: Path, guard: str) -> None:
    """Wherever a notebook brings an attack, nothing runs, nothing loads, nobody is moved."""
    arm, window = Armed(), Window(browser)
    for name, html in attacked(tmp_path, arm).items():
        assert html.count("Content-Security-Policy") == 1
        if guard == "sanitizer alone":
            html = html.replace("Content-Security-Policy", "x-none")
        path = tmp_path / f"{name}.html"
        seen = window.visit(path, html)
        assert not seen.fired, (name, [arm.fired[number] for number in seen.fired])
        assert not seen.called, (name, seen.called)
        assert seen.address == path.as_uri(), name


def test_no_page_holds_what_could_run(browser: Any, tmp_path: Path) -> None:
    """The parsed page has no active element, no handler and no address but safe ones."""
    for name, html in attacked(tmp_path, Armed()).items():
        page = browser.new_page()
        page.set_content(html)
        assert page.locator(ACTIVE).count() == 0, name
        attributes = page.evaluate(
            """() => [...document.querySelectorAll('*')].flatMap(e => [...e.attributes]
              .map(a => [e.localName, a.name, a.value]))"""
        )
        for element, attribute, value in attributes:
            assert not attribute.startswith("on") and attribute != "srcdoc", (name, element)
            if attribute == "href":
                assert re.match(r"(https?:|mailto:|#|[^:]*\.html$)", value), (name, value[:80])
            if attribute == "src":
                assert value.startswith("data:image/"), (name, value)
        ids = [v for _, attribute, v in attributes if attribute == "id"]
        assert ids.count("main") == 1, name
        assert page.locator("meta[http-equiv]").count() == 1, name
        page.close()


ACTIVE = """script, iframe, frame, object, embed, base, link, form, button, textarea, video, audio,
foreignObject, animate, set, use, image, annotation-xml, style:not(head style)"""

LEGITIMATE = [
    markdown(
        "# Whole\n\n## Section\n\n| h | i |\n|---|---|\n| 1 | 2 |\n\n- [x] done\n\n"
        "Term\n: meaning\n\n"
        "$\\frac{a}{b}$ and [out](https://x.org), [in](#Section)\n\n```python\nx = 1\n```\n\n"
        "![pixel](attachment:p)\n\n<details><summary>more</summary>less</details>",
        attachments={"p": {"image/png": PIXEL}},
    ),
    code(
        "# A figure\nframe",
        shown(text_html="<table class='dataframe'><thead><tr><th>c</th></tr></thead></table>"),
        shown(image_png=PIXEL),
        shown(image_svg="<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"),
        shown(text_html="<svg viewBox='0 0 9 9'><path d='M0 0L9 9' stroke='red'/></svg>"),
        shown(text_latex="$\\displaystyle x^2$"),
        stream("\x1b[31mred\x1b[0m"),
    ),
]


def test_the_legitimate_report_is_whole(browser: Any, tmp_path: Path) -> None:
    """What safety must not cost: headings, tables, images, plots, maths, lists, code and links."""
    figures = {"auc": 0.7, "auc_low": 0.6, "auc_high": 0.8}
    report = project(
        tmp_path, LEGITIMATE, figures=figures, parameters=[parameter("rate", 0.2, 0.1)]
    )
    page = browser.new_page()
    page.set_content(render(report, root=tmp_path))
    expected = {
        "h1": 1, "#n-Section": 1, ".prose th": 2, ".prose li input[type=checkbox]": 1,
        ".prose dd": 1, "math mfrac": 1, ".rich math msup": 1, ".prose pre .mi": 1,
        ".prose img[src^='data:image/png']": 1, ".prose details summary": 1, ".dataframe th": 1,
        "figure img[alt='A figure']": 2, ".rich svg path[d]": 1, ".text .ansi-red-fg": 1,
        ".metrics svg.bar": 1, ".parameters .differs": 1, "a[href='#n-Section']": 2,
        "a[href='https://x.org'][rel='noopener noreferrer']": 1, "nav": 2, "main": 1,
        "html[lang]": 1, "a.skip": 1, "img:not([alt])": 0,
    }  # fmt: skip
    assert {css: page.locator(css).count() for css in expected} == expected
    loaded = page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert loaded, "an image is broken"
    page.close()


def test_code_is_folded_and_one_switch_shows_all(browser: Any, tmp_path: Path) -> None:
    """Without a script: each cell opens alone, the switch opens all, by keyboard too."""
    report = project(tmp_path, [code("a = 1\nb = 2"), code("c = 3")])
    page = browser.new_page(java_script_enabled=False)
    page.set_content(render(report, root=tmp_path))
    first, second = page.locator("pre.code").all()
    assert not first.is_visible() and not second.is_visible()
    page.locator("summary").nth(1).click()
    assert first.is_visible() and not second.is_visible()
    page.locator("#show-code").focus()
    page.keyboard.press("Space")
    assert first.is_visible() and second.is_visible()
    page.close()


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_their_window(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    """Wide tables, long words, code and maths scroll in their own box, never the page."""
    wide = "".join(f"<td>column {i}</td>" for i in range(60))
    long = "x" * 400
    cells = [
        markdown(f"# {long}\n\n{long} `{long}`\n\n## {long}\n\n$$" + "x+" * 200 + "x$$"),
        markdown("|" + "h|" * 50 + "\n|" + "-|" * 50 + "\n|" + "v|" * 50),
        markdown(f"<table><tr>{wide}</tr></table>\n\n```\n{long}\n```"),
        code(f"{long} = 1", shown(text_html=f"<table><tr>{wide}</tr></table>"), stream(long)),
        code("e()", shown(text_plain=long), shown(text_latex="$\\frac{")),
    ]
    report = project(
        tmp_path, cells, name=f"train-{long}", figures={long: 1.0, "a": {long: long}},
        parameters=[parameter(long, long, 1, help=long, type=long)],
        inputs={f"data/{long}": "0" * 64}, code="1" * 64,
    )  # fmt: skip
    pages = [
        render(report, root=tmp_path),
        render_index([report], root=tmp_path, title=long, candidate={long: long}),
        render_failed(document([code("x", error(long, long))], cause=long), None),
    ]
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for html in pages:
        page.set_content(html)
        found = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert found[0] <= found[1], page.title()[:20]
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Any, tmp_path: Path, scheme: str) -> None:
    """Every piece of text of a page has the contrast that WCAG AA asks for, in both themes."""
    given = [parameter("rate", 0.2, 0.1, help="h")]
    code_cell = code(
        "import os  # why\nx = f('s') + 1", stream("\x1b[31mr\x1b[32mg\x1b[33my\x1b[34mb")
    )
    failing = code("g()", error())
    cells = [*LEGITIMATE, code_cell, code("dev()", tags=["dev"]), failing]
    told: dict[str, Any] = {"failed_cell": len(cells) - 1, "parameters": given}
    told |= {"status": "failed", "cause": "c"}
    report = project(tmp_path, cells, figures={"a": 1, "a_low": 0, "a_high": 2}, **told)
    ran = json.loads((tmp_path / report.executed).read_text())
    page = browser.new_page(color_scheme=scheme)
    for html in (
        render(report, root=tmp_path),
        render_failed(ran, tmp_path / report.source),
        render_index([report], root=tmp_path, title="T", candidate={"a": "b"}),
    ):
        page.set_content(html)
        low = page.evaluate(CONTRAST)
        assert low == []
    page.close()


CONTRAST = """() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const over = (top, under, a) => top.slice(0, 3).map((v, i) => v * a + under[i] * (1 - a));
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3) return c;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.querySelectorAll('body *')) {
    const words = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!words || e.closest('svg') || !e.checkVisibility()) continue;
    const style = getComputedStyle(e);
    let alpha = 1;
    for (let p = e; p; p = p.parentElement) alpha *= getComputedStyle(p).opacity;
    const back = ground(e), fore = over(parse(style.color), back, alpha);
    const [a, b] = [light(fore), light(back)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) low.push([e.localName, e.className, e.textContent.trim().slice(0, 20), ratio]);
  }
  return low;
}"""
