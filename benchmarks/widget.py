"""How quick the comparison is in JupyterLab with 10,000 runs, and how much memory it takes.

    python benchmarks/widget.py [RUNS]

A real JupyterLab in headless Chromium opens the panel. The runs are made up and handed to the page
in place of the server's answer, so that the figures are of the page: from the command that opens
the panel to two frames after the table was drawn, and from the click on a head to the same. Memory
is what the page holds after a garbage collection, above a JupyterLab that shows its Launcher.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from test_widget import Lab, many

from mlnb.tracking.columns import joined

STATIC = Path(__file__).parents[1] / "mlnb" / "widget" / "static"
TIMES = 5
PAINTED = """(name) => new Promise((done) => {
    const root = document.querySelector('#mlnb-compare .mlnb-compare');
    const before = root.dataset.paints, start = performance.now();
    new MutationObserver(() => root.dataset.paints !== before && done(performance.now() - start))
        .observe(root, {attributes: true, attributeFilter: ['data-paints']});
    document.querySelector(`.mlnb-head [data-key="${name}"]`).click();
})"""
OPENED = """() => new Promise((done) => {
    const start = performance.now();
    const look = () => document.querySelector('#mlnb-compare [data-paint-ms]')
        ? done(performance.now() - start) : requestAnimationFrame(look);
    jupyterapp.commands.execute('mlnb:compare').then(look);
})"""


def held(page: Any) -> float:
    """Return the bytes that a page holds: objects of scripts, of the browser, and buffers."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    told = session.send("Runtime.getHeapUsage")
    names = ("usedSize", "embedderHeapUsedSize", "backingStorageSize")
    return float(sum(told.get(name, 0) for name in names))


def main(count: int) -> None:
    """Measure, and print."""
    header, buffers = many(count)
    body = joined(json.dumps(header).encode(), buffers)
    print(f"{count:,} runs of {len(header['columns'])} columns, {len(body) / 1e6:.1f} MB")
    size = (STATIC / "compare.js").stat().st_size
    print(
        f"module {size / 1e3:.1f} kB, style {(STATIC / 'compare.css').stat().st_size / 1e3:.1f} kB"
    )
    opened, sorted_, memory = [], [], []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        root = Path(folder, "project")
        root.mkdir()
        lab = Lab(root, Path(folder), browser)
        try:
            for time in range(TIMES):
                page = lab.page("/lab")
                page.wait_for_selector(".jp-Launcher")
                page.route("**/mlnb/state*", lambda route: route.fulfill(body=body))
                empty = held(page)
                opened.append(page.evaluate(OPENED))
                keys = [f"metrics.evaluate.m{n}" for n in random.Random(time).sample(range(12), 4)]
                sorted_ += [page.evaluate(PAINTED, key) for key in keys]
                memory.append(held(page) - empty)
                page.close()
        finally:
            lab.close()
            browser.close()
    print(f"opened to painted  median {statistics.median(opened):.0f} ms, worst {max(opened):.0f}")
    print(
        f"sort to painted    median {statistics.median(sorted_):.0f} ms, worst {max(sorted_):.0f}"
    )
    print(f"memory above empty median {statistics.median(memory) / 1e6:.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
