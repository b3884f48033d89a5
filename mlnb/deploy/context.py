"""The build context: a folder with all that an image of the server is built of.

It holds the Dockerfile, the wheels of the serving path with the digests that the project's lock
file allows, this mlnb, and a project in small: the signed statement of one environment, the public
keys, and the bundles that the statement names. Building it takes no network, no resolver and no
secret, so ``docker``, ``podman`` and ``buildah`` all can.
"""

from __future__ import annotations

import functools
import json
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb import trust
from mlnb.deploy import packages, sbom
from mlnb.deploy.errors import DeployError
from mlnb.files import write_bytes, write_text
from mlnb.project import Project

if TYPE_CHECKING:
    import jinja2

    from mlnb.bundle import Bundle

PORT = 8080
USER = 10001
ROOT = "/srv/mlnb"
WRITABLE = (f"{ROOT}/.mlnb/serving", f"{ROOT}/.mlnb/predictions", "/tmp")
"""All that the server writes to; the rest of its root may be read-only."""

_SERVED = ("people", "policy")
"""The settings in [tool.mlnb] that the server reads."""
_WRITTEN = {
    *("Dockerfile", "mlnb", "project", "requirements.txt", "sbom.cdx.json", "wheels", "writable"),
}
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Context:
    """What a build context was made of.

    Attributes:
        folder: where it lies.
        environment: whose statement is in it.
        statement: the statement.
        bundles: digests of the bundles in it.
        base: the image that it starts from.
        remarks: what a person should know of it.
    """

    folder: Path
    environment: str
    statement: trust.Statement
    bundles: tuple[str, ...]
    base: str
    remarks: tuple[str, ...]

    @property
    def tag(self) -> str:
        """A tag for the image: the version, and the number of the statement."""
        return f"{self.statement.version}-{self.statement.counter}"


def write_context(
    project: Project, environment: str, folder: Path, *, base: str | None = None
) -> Context:
    """Write the build context of ``environment`` to ``folder``, which must be empty or new.

    Args:
        project: the project.
        environment: whose statement to serve.
        folder: where to write it; wheels that lie there already are taken again.
        base: an image with this Python, by digest if it is to be reproducible.

    Raises:
        MlnbError: nothing trusted is published there, a bundle is missing, or a package is not
            locked with hashes or has no wheel for Linux.
    """
    statement = published(project, environment)
    bundles = [_bundle(project, digest) for digest in named(statement)]
    pinned = packages.requirements(project, bundles)
    base = base or default_base()
    _clear(folder)
    write_bytes(folder / "requirements.txt", pinned)
    packages.fetch_wheels(folder)
    _copy_mlnb(folder / "mlnb")
    _write_project(project, environment, bundles, folder / "project")
    for path in WRITABLE[:2]:
        (folder / "writable" / Path(path).name).mkdir(parents=True)
    name = f"{title(project)}-{environment}"
    digests = tuple(each.digest for each in bundles)
    bill = sbom.bill(pinned.decode(), name=name, version=str(statement.version), bundles=digests)
    write_bytes(folder / "sbom.cdx.json", bill)
    write_text(folder / "Dockerfile", _dockerfile(name, environment, statement, base))
    _settle_modes(folder)
    return Context(folder, environment, statement, digests, base, tuple(_remarks(base, bundles)))


def published(project: Project, environment: str) -> trust.Statement:
    """Return the verified statement of ``environment``.

    Raises:
        MlnbError: none that is trusted.
    """
    where = f"deployments/{environment}.json"
    found = trust.read_published(
        project.root / where, trust.trusted(project.root / "deployments/keys"), where=where
    )
    if found is None:
        raise DeployError(
            f"says that nothing runs in {environment} yet",
            where=where,
            remedy=f"Run `mlnb promote --to {environment}`.",
        )
    return found


def named(statement: trust.Statement) -> list[str]:
    """Return the digests of the bundles that a server of ``statement`` needs."""
    stable = statement.strategy.get("from")
    return sorted({statement.bundle, *([stable] if isinstance(stable, str) else [])})


def default_base() -> str:
    """Return the official slim image of the Python that runs this."""
    return f"docker.io/library/python:{sys.version_info[0]}.{sys.version_info[1]}-slim"


def template(name: str) -> jinja2.Template:
    """Return one of the templates beside this module; it renders plain text."""
    return _environment().get_template(name)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=False,  # neither a Dockerfile nor YAML is HTML; values go through JSON
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["json"] = functools.partial(json.dumps, ensure_ascii=False)
    return environment


def _bundle(project: Project, digest: str) -> Bundle:
    from mlnb.store import open_store

    return open_store(project).get(digest)


def _clear(folder: Path) -> None:
    """Take away an older context, but for its wheels; leave alone what is none."""
    if not folder.exists():
        return
    there = {each.name for each in folder.iterdir()}
    if there - _WRITTEN:
        raise DeployError(
            "holds other files; a build context is written to a folder of its own",
            where=str(folder),
        )
    for name in there - {"wheels"}:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _copy_mlnb(folder: Path) -> None:
    """Copy this mlnb: Python files and what lies beside them."""
    import mlnb

    shutil.copytree(
        Path(mlnb.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__", ".*")
    )


def _write_project(project: Project, environment: str, bundles: list[Bundle], folder: Path) -> None:
    """Write the project in small that the server finds itself in."""
    write_text(folder / "pyproject.toml", _settings(project))
    sources = [project.root / f"deployments/{environment}.json"]
    for kind in ("keys", "tokens"):
        sources += sorted((project.root / "deployments" / kind).glob("*.json"))
    for source in sources:
        write_bytes(folder / source.relative_to(project.root), source.read_bytes())
    for each in bundles:
        each.save(folder / ".mlnb/bundles" / each.digest.removeprefix("sha256:"))


def _settings(project: Project) -> str:
    """Return the settings that the server reads as TOML."""
    try:
        content = tomllib.loads((project.root / "pyproject.toml").read_text(encoding="utf-8"))
        table = content.get("tool", {}).get("mlnb", {})
    except FileNotFoundError:
        table = {}
    kept = [f"{name} = {_toml(table[name])}\n" for name in _SERVED if name in table]
    return "".join(["[tool.mlnb]\n", *kept])


def _toml(value: Any) -> str:
    """Return a value in TOML, tables inline; its strings and numbers are those of JSON."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value) if isinstance(value, str | bool | int | float) else str(value)


def _dockerfile(name: str, environment: str, statement: trust.Statement, base: str) -> str:
    from mlnb import __version__

    labels = {
        "org.opencontainers.image.title": name,
        "org.opencontainers.image.version": str(statement.version),
        **({"org.opencontainers.image.revision": statement.commit} if statement.commit else {}),
        "io.mlnb.version": __version__,
        "io.mlnb.environment": environment,
        "io.mlnb.bundle": statement.bundle,
        "io.mlnb.statement": str(statement.counter),
    }
    return template("Dockerfile.j2").render(
        environment=environment,
        version=statement.version,
        base=base,
        prune=["python", "-c", packages.PRUNE, *packages.UNNEEDED],
        labels=list(labels.items()),
        root=ROOT,
        user=USER,
        port=PORT,
        arguments=["--env", environment, "--host", "0.0.0.0", "--port", str(PORT)],
    )


def _settle_modes(folder: Path) -> None:
    """Let everybody read and nobody but the owner write, whatever the mask of new files is."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _remarks(base: str, bundles: list[Bundle]) -> Iterator[str]:
    if "@sha256:" not in base:
        yield f"{base} is a tag, which may move: name it by its digest to build the same again"
    for each in bundles:
        made = each.scorer()
        if not made.compiled:
            yield f"{each.digest[:19]} is not compiled, so all its packages are in: {made.why}"


def title(project: Project) -> str:
    """Return what the project's servers are called."""
    return project.settings.experiment or project.root.name
