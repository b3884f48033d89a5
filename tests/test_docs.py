"""The documentation names every command, setting, type and tag that there is."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

import mlnb
from mlnb import cli, contract
from mlnb.project import Settings

ROOT = Path(__file__).parent.parent


def test_the_readme_names_every_command() -> None:
    """Each command stands in the README's table, and no other."""
    (commands,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    named = re.findall(r"(?m)^\| `mlnb (\w+)", (ROOT / "README.md").read_text())
    assert sorted(named) == sorted(commands.choices)


def test_every_setting_is_explained() -> None:
    """Each field of Settings has a row, and each row a field."""
    named = re.findall(r"(?m)^\| `([\w-]+)` \|", (ROOT / "docs/settings.md").read_text())
    fields = [field.name.replace("_", "-") for field in dataclasses.fields(Settings)]
    assert sorted(named) == sorted(fields)


def test_every_marker_is_explained() -> None:
    """Each path marker has a row in the contract's page and is exported."""
    text = (ROOT / "docs/contract.md").read_text()
    for marker in contract.MARKERS:
        assert f"| `{marker}` |" in text
        assert marker in mlnb.__all__


def test_links_of_the_documentation_lead_somewhere() -> None:
    """Relative links in README and docs point to files."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_finding_is_explained() -> None:
    """Each rule in the source stands in the table, and each of the table in the source."""
    named = set(re.findall(r"`([a-z-]+)`", "".join(_rows(ROOT / "docs/lint.md"))))
    sources = [*(ROOT / "mlnb/agreement").glob("*.py"), *(ROOT / "mlnb/lint").glob("*.py")]
    text = "".join(path.read_text() for path in sources)
    quoted = set(re.findall(r'"([a-z]+(?:-[a-z]+)*)"', text))
    made = {"undeclared-read", "undeclared-write"}  # composed in the source
    assert named - made <= quoted
    assert {word for word in quoted if "-" in word} - {"mlnb-code", "utf-8"} <= named


def _rows(page: Path) -> list[str]:
    return [line.split("|")[1] for line in page.read_text().splitlines() if line.startswith("| `")]
