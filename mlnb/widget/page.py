"""The comparison without Python: a plain table, and a page that a script makes interactive."""

from __future__ import annotations

import base64
import datetime
import html
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlnb.tracking.columns import unpack

_STATIC = Path(__file__).with_name("static")
_MOST = 50
_SHOWN = ("metric", "param", "meta")


def table(
    header: Mapping[str, Any], buffers: Sequence[bytes], selected: Collection[str] = ()
) -> str:
    """Return a plain table of the chosen runs, or of the first ones; columns that differ only."""
    told = {column["key"]: column for column in header["columns"]}
    values = {key: unpack(column, buffers[column["buffer"]]) for key, column in told.items()}
    runs = values["run"]
    rows = [row for row, run in enumerate(runs) if run in selected] or list(range(len(runs)))
    left_out = max(0, len(rows) - _MOST)
    rows = rows[:_MOST]
    keys = [
        key
        for key, column in told.items()
        if column["kind"] in _SHOWN
        and (len({values[key][row] for row in rows}) > 1 or key == "name")
    ]
    head = "".join(f'<th scope="col">{html.escape(told[key]["name"])}</th>' for key in keys)
    body = "".join(
        "<tr>" + "".join(_cell(told[key], values[key][row]) for key in keys) + "</tr>"
        for row in rows
    )
    more = f"<p>{left_out} more runs are not in this table.</p>" if left_out else ""
    return (
        f"<table><caption>Runs: columns in which they differ</caption><thead><tr>{head}</tr>"
        f"</thead><tbody>{body}</tbody></table>{more}"
    )


def page(header: Mapping[str, Any], buffers: Sequence[bytes], *, title: str) -> str:
    """Return a page that needs nothing else: a plain table, and a script that takes over."""
    script = (_STATIC / "compare.js").read_text("utf-8")
    state = {
        "header": dict(header),
        "buffers": [base64.b64encode(each).decode() for each in buffers],
    }
    script = script.replace("export default { render };", "")
    begin = (
        "const told = JSON.parse(document.getElementById('state').textContent);"
        "const root = document.getElementById('runs'); root.replaceChildren();"
        "root.classList.add('mlnb-full');"
        "const dark = matchMedia('(prefers-color-scheme: dark)');"
        "const theme = () => { document.body.dataset.jpThemeLight = String(!dark.matches); };"
        "theme(); dark.addEventListener('change', theme);"
        "mount(root, reportHost(told.header, told.buffers.map(fromBase64)));"
    )
    code = f"{script}\n{begin}"
    policy = (
        f"default-src 'none'; script-src 'sha256-{_digest(code)}'; style-src 'unsafe-inline';"
        " base-uri 'none'; form-action 'none'"
    )
    style = (_STATIC / "compare.css").read_text("utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}\n{_PAGE}</style></head>"
        f'<body><main id="runs">{table(header, buffers)}</main>'
        f'<script type="application/json" id="state">{_inline(state)}</script>'
        f'<script type="module">{code}</script></body></html>\n'
    )


_PAGE = """
html, body { margin: 0; height: 100%; }
body { font: 14px system-ui, sans-serif; background: #fff; color: #1c2024; }
body[data-jp-theme-light="false"] { background: #15181c; color: #eceef0; color-scheme: dark; }
#runs { height: 100vh; box-sizing: border-box; overflow: auto; }
"""


def _cell(column: Mapping[str, Any], value: Any) -> str:
    if value is None:
        return "<td></td>"
    if column["type"] != "number":
        return f"<td>{html.escape(value)}</td>"
    if column.get("format") == "moment":
        at = datetime.datetime.fromtimestamp(value, datetime.UTC)
        return f"<td>{at:%Y-%m-%d %H:%M}</td>"
    return f'<td style="text-align: right">{value:.6g}</td>'


def _inline(state: Any) -> str:
    """Return JSON that ends no script element, whatever it holds."""
    return json.dumps(state, allow_nan=False).replace("<", "\\u003c")


def _digest(code: str) -> str:
    import hashlib

    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
