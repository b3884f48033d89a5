"""The build context: a folder with all that an image of the server is built of.

It holds the Dockerfile, the wheels of the serving path with the digests that the project's lock
file allows, this mlnb, and a project in small: the signed statement of one environment, the public
keys, and the bundles that the statement names. Building it takes no network, no resolver and no
secret, so ``docker``, ``podman`` and ``buildah`` all can.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
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

_SERVED = ("people", "policy", "serve")
"""The settings in [tool.mlnb] that the server reads."""
_WRITTEN = {
    *("Dockerfile", "install.py", "mlnb", "project", "requirements.txt", "sbom.cdx.json"),
    *("wheels", "writable"),
}
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Context:
    """What a build context was made of.

    Attributes:
        folder: where it lies.
        name: of the image.
        statement: the statement.
        bundles: digests of the bundles in it.
        base: the image that it starts from.
        remarks: what a person should know of it.
    """

    folder: Path
    name: str
    statement: trust.Statement
    bundles: tuple[str, ...]
    base: str
    remarks: tuple[str, ...]

    @property
    def tag(self) -> str:
        """What to call the image: the project, the environment, and the version."""
        return f"{self.name}:{self.statement.version}"


def write_context(
    project: Project,
    environment: str,
    folder: Path,
    *,
    base: str | None = None,
    insecure: bool = False,
) -> Context:
    """Write the build context of ``environment`` to ``folder``, which must be empty or new.

    Args:
        project: the project.
        environment: whose statement to serve.
        folder: where to write it; wheels that lie there already are taken again.
        base: an image with this Python, by digest if it is to be reproducible; by default that of
            the settings.
        insecure: let everybody ask the server who reaches it, without a token.

    Raises:
        MlnbError: nothing trusted is published there, a bundle is missing, a package is not locked
            with hashes or has no wheel for Linux, or there is no token to tell who asks.
    """
    if not insecure and not _tokens(project):
        raise DeployError(
            "a container listens to other machines, and there is no token to tell who asks",
            remedy="Make one with `mlnb tokens new PERSON`; or let everybody in who reaches it,"
            " with --insecure, where the network decides who does.",
        )
    statement = published(project, environment)
    bundles = [_bundle(project, digest) for digest in named(statement)]
    pinned = packages.requirements(project, bundles)
    base = base or project.settings.image_base or default_base()
    _clear(folder)
    write_bytes(folder / "requirements.txt", pinned)
    packages.fetch_wheels(folder)
    _copy_mlnb(folder / "mlnb")
    _write_project(project, environment, bundles, folder / "project")
    for path in WRITABLE[:2]:
        (folder / "writable" / Path(path).name).mkdir(parents=True)
    name = f"{slug(project)}-{environment}"
    digests = tuple(each.digest for each in bundles)
    bill = sbom.bill(pinned.decode(), name=name, version=str(statement.version), bundles=digests)
    write_bytes(folder / "sbom.cdx.json", bill)
    script = template("install.py.j2").render(unneeded=packages.UNNEEDED)
    write_text(folder / "install.py", script)
    write_text(folder / "Dockerfile", _dockerfile(name, statement, base, insecure))
    _settle_modes(folder)
    return Context(folder, name, statement, digests, base, tuple(_remarks(base, bundles)))


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


def serve_words(environment: str, insecure: bool, workers: int = 1) -> list[str]:
    """Return what follows ``mlnb serve`` in a container."""
    words = ["--env", environment, "--host", "0.0.0.0", "--port", str(PORT)]
    words += ["--workers", str(workers)] if workers != 1 else []
    return words + (["--insecure"] if insecure else [])


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


def _tokens(project: Project) -> bool:
    """Whether there is a token that counts."""
    from mlnb.people.tokens import known_tokens

    now = datetime.now(UTC)
    return any(not each.fault(now) for each in known_tokens(project))


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
    """Return the settings that the server reads as TOML; what it is called is one of them."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", project.root.name).strip("-._")[:63]
    told = {each: dict(getattr(project.settings, each)) for each in _SERVED}
    told["serve"] = {"name": name or "model"} | told["serve"]
    return "".join(["[tool.mlnb]\n", *(f"{key} = {_toml(told[key])}\n" for key in _SERVED)])


def _toml(value: Any) -> str:
    """Return a value in TOML, tables inline; its strings and numbers are those of JSON."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value) if isinstance(value, str | bool | int | float) else str(value)


def _dockerfile(name: str, statement: trust.Statement, base: str, insecure: bool) -> str:
    from mlnb import __version__

    environment = statement.environment
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
        labels=list(labels.items()),
        root=ROOT,
        user=USER,
        port=PORT,
        arguments=serve_words(environment, insecure),
    )


def _settle_modes(folder: Path) -> None:
    """Let everybody read and nobody but the owner write, whatever the mask of new files is.

    But for the folders that the server writes to: what is mounted there takes over their modes.
    """
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in (folder / "writable").iterdir():
        path.chmod(0o1777)


def _remarks(base: str, bundles: list[Bundle]) -> Iterator[str]:
    if "@sha256:" not in base:
        yield f"{base} is a tag, which may move: name it by its digest to build the same again"
    for each in bundles:
        made = each.scorer()
        if not made.compiled:
            yield f"{each.digest[:19]} is not compiled, so all its packages are in: {made.why}"


def slug(project: Project) -> str:
    """Return what the project's servers are called: its experiment, in lower case."""
    name = project.settings.experiment or project.root.name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "model"
