"""The documentation names every command, setting, type and tag that there is."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

from pydantic import BaseModel

import mlnb
from mlnb import cli, contract
from mlnb.gates import language
from mlnb.package import Package
from mlnb.project import Settings
from mlnb.statistics import METRICS

ROOT = Path(__file__).parent.parent


def test_the_readme_names_every_command() -> None:
    """Each command stands in the README's table, and no other."""
    (commands,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    named = re.findall(r"(?m)^\| `mlnb ([\w-]+)", (ROOT / "README.md").read_text())
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


def test_every_metric_and_key_of_gates_is_explained() -> None:
    """Each metric, and each key that may stand in the section `gates`, stands on its page."""
    text = (ROOT / "docs/gates.md").read_text()
    words = set(re.findall(r"[A-Za-z0-9_]+", text))
    models: list[type[BaseModel]] = [language.Gates, language.Defaults, language.WearLimit]
    models += language.KINDS
    keys = {field.alias or key for model in models for key, field in model.model_fields.items()}
    assert keys | set(METRICS) <= words


def test_every_key_of_the_package_section_is_explained() -> None:
    """Each key of the section `package` has a row, and each row a key."""
    named = re.findall(r"(?m)^\| `([^|]+)` \|", (ROOT / "docs/bundle.md").read_text())
    keys = {key for row in named for key in re.findall(r"\w+", row)}
    assert set(Package.model_fields) <= keys


def _rows(page: Path) -> list[str]:
    return [line.split("|")[1] for line in page.read_text().splitlines() if line.startswith("| `")]
