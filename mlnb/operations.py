"""The commands of operations: serving, deploying; their words, and what they print.

As in :mod:`mlnb.cli`, each calls one function, and nothing heavy is imported before it is known.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from mlnb.errors import MlnbError

Add = Callable[..., argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add the commands to the parser, by its ``add(NAME, COMMAND, SUMMARY)``."""
    serve = add("serve", _serve, "Answer requests with the version that was promoted.")
    serve.add_argument("--env", default="production", metavar="ENV", help="(default %(default)s)")
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default %(default)s)"
    )
    serve.add_argument(
        "--port", type=_port, default=8080, help="0 for any that is free (default %(default)s)"
    )
    serve.add_argument(
        "--workers", type=_workers, default=1, metavar="N", help="processes (default %(default)s)"
    )
    serve.add_argument("--insecure", action="store_true", help="let everybody in, without tokens")

    image = add("image", _image, "Build a container image of the server and what was promoted.")
    image.add_argument("--env", default="production", metavar="ENV", help="(default %(default)s)")
    image.add_argument("--tag", help="name of the image (default NAME-ENV:VERSION)")
    image.add_argument("--engine", help="docker, podman or buildah (default the first installed)")
    image.add_argument(
        "--base", metavar="IMAGE", help="to start from (default that of the settings)"
    )
    image.add_argument(
        "--to", type=Path, metavar="DIR", help="write the build context there, and build nothing"
    )
    image.add_argument("--insecure", action="store_true", help="let everybody in, without tokens")

    manifests = add("manifests", _manifests, "Write the manifests of a server on Kubernetes.")
    manifests.add_argument("image", metavar="IMAGE", help="by its digest: NAME@sha256:...")
    manifests.add_argument(
        "--env", default="production", metavar="ENV", help="(default %(default)s)"
    )
    manifests.add_argument(
        "--to", type=Path, default=Path("kubernetes"), metavar="DIR", help="(default %(default)s)"
    )

    alerts = add("alerts", _alerts, "Write rules for Prometheus and a dashboard for Grafana.")
    alerts.add_argument(
        "--to", type=Path, default=Path("monitoring"), metavar="DIR", help="(default %(default)s)"
    )
    alerts.add_argument(
        "--max-errors",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="of the answers that may fail (default %(default)s)",
    )
    alerts.add_argument(
        "--max-p99",
        type=float,
        default=100.0,
        metavar="MS",
        help="milliseconds of 99 in 100 answers (default %(default)s)",
    )

    load = add("loadtest", _loadtest, "Send requests as users would, and judge the answers.")
    load.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help="of the server or of a route (default the server of ENV that runs on this machine)",
    )
    load.add_argument("--env", default="production", metavar="ENV", help="(default %(default)s)")
    load.add_argument(
        "--rate", type=float, default=100.0, help="requests a second (default %(default)s)"
    )
    load.add_argument("--seconds", type=float, default=10.0, help="(default %(default)s)")
    load.add_argument(
        "--connections", type=int, default=256, help="at most at once (default %(default)s)"
    )
    load.add_argument(
        "--timeout", type=float, default=10.0, help="seconds for an answer (default %(default)s)"
    )
    load.add_argument(
        "--data",
        type=Path,
        metavar="FILE.jsonl",
        help="a body in each line (default the golden requests of what was promoted)",
    )
    load.add_argument("--header", action="append", default=[], metavar="NAME=VALUE")
    load.add_argument(
        "--token-env", metavar="NAME", help="variable of the environment that holds a token"
    )
    for name in ("p50", "p95", "p99"):
        load.add_argument(f"--max-{name}", type=float, metavar="MS", help="milliseconds")
    load.add_argument(
        "--max-errors",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="of the requests that may fail, from 0 to 1 (default %(default)s)",
    )
    load.add_argument("--json", type=Path, metavar="FILE", help="write figures and verdict there")

    deploy = add("deploy", None, "Bring what runs to what was promoted, and roll it out.")
    actions = deploy.add_subparsers(metavar="ACTION", required=True)
    for action, summary in _DEPLOY.items():
        made = actions.add_parser(action, help=summary, description=summary)
        made.set_defaults(command=_deploy, action=action)
        made.add_argument(
            "--env", default="production", metavar="ENV", help="(default %(default)s)"
        )
        made.add_argument("--driver", default="local", help="(default %(default)s)")
        if action in ("plan", "apply"):
            made.add_argument("--port", type=_port, default=8080, help="(default %(default)s)")
            made.add_argument("--workers", type=_workers, default=1, help="(default %(default)s)")
        if action == "apply":
            made.add_argument("--wait", action="store_true", help="until it is settled")
            made.add_argument("--loop", action="store_true", help="for ever")
        elif action == "status":
            made.add_argument("--json", action="store_true", help="as JSON")
        elif action != "plan":
            made.add_argument("--reason", required=True, metavar="TEXT", help="kept for ever")


_DEPLOY = {
    "plan": "Say what would be done and what is in the way; do nothing.",
    "apply": "Start what is to run, and roll it out.",
    "status": "Tell what runs, and what its counts come to.",
    "promote": "Let the candidate answer all requests.",
    "abort": "Take the candidate out, and go back.",
    "rollback": "Go back to the version that ran before.",
}


def _deploy(options: argparse.Namespace) -> int:
    from mlnb.deployment import command
    from mlnb.project import find

    project, action = find(), options.action
    places = {name: getattr(options, name) for name in ("port", "workers") if name in options}
    driver = command.driver_of(project, options.env, options.driver, **places)
    if action == "plan":
        return command.plan(project, options.env, driver)
    if action == "apply":
        return command.apply(project, options.env, driver, wait=options.wait, loop=options.loop)
    if action == "status":
        return command.status(project, options.env, driver, plain=options.json)
    return int(getattr(command, action)(project, options.env, driver, options.reason))


def _image(options: argparse.Namespace) -> int:
    from mlnb.deploy import container, context
    from mlnb.project import find

    project = find()
    engine = None if options.to else container.find_engine(options.engine)
    folder = options.to or project.state / "image" / options.env
    made = context.write_context(
        project, options.env, folder, base=options.base, insecure=options.insecure
    )
    for remark in made.remarks:
        print(f"note: {remark}")
    if engine is None:
        print(f"The build context of version {made.statement.version} is in {folder}")
        return 0
    tag = options.tag or made.tag
    number = container.build(folder, tag, engine=engine)
    print(f"{tag} is version {made.statement.version} of {options.env}: {number[:12]}")
    return 0


def _manifests(options: argparse.Namespace) -> int:
    from mlnb.deploy import kubernetes
    from mlnb.project import find

    project = find()
    files = kubernetes.render(kubernetes.cluster(project, options.env), options.env, options.image)
    for name in kubernetes.write(options.to, files):
        print(f"wrote {options.to / name}")
    print(f"Now run: kubectl apply -k {options.to / 'overlays' / options.env}")
    return 0


def _serve(options: argparse.Namespace) -> int:
    from mlnb.project import find
    from mlnb.serving.command import run

    return run(
        find(),
        options.env,
        host=options.host,
        port=options.port,
        workers=options.workers,
        insecure=options.insecure,
    )


def _alerts(options: argparse.Namespace) -> int:
    from mlnb import files
    from mlnb.deploy import monitoring

    made = {
        monitoring.RULES: monitoring.rules(
            errors=options.max_errors, latency=options.max_p99 / 1000
        ),
        monitoring.DASHBOARD: monitoring.dashboard(),
    }
    for name, text in made.items():
        files.write_text(options.to / name, text)
        print(f"wrote {options.to / name}")
    return 0


def _loadtest(options: argparse.Namespace) -> int:
    from mlnb import files, loadtest

    load = loadtest.Load(
        url=_endpoint(options.url or _address(options.env)),
        bodies=_lines(options.data) if options.data else _golden(options.env),
        rate=options.rate,
        seconds=options.seconds,
        connections=options.connections,
        timeout=options.timeout,
        headers=_headers(options.header, options.token_env),
    )
    limits = loadtest.Limits(
        p50=options.max_p50, p95=options.max_p95, p99=options.max_p99, errors=options.max_errors
    )
    figures = loadtest.run(load, _sent if sys.stderr.isatty() else None)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    verdict, why = figures.judge(limits)
    print(f"{load.url}: {load.rate:g} requests/s for {load.seconds:g} s")
    print("\n".join(figures.words()))
    for each in why:
        print(f"  {each}")
    print(verdict)
    if options.json:
        asked = {"url": load.url, "rate": load.rate, "connections": load.connections}
        told = {"verdict": verdict, "why": why, "limits": dataclasses.asdict(limits)}
        files.write_json(options.json, figures.plain() | asked | told)
    return {"pass": 0, "fail": 1}.get(verdict, 2)


def _address(environment: str) -> str:
    """Return where the server of an environment runs on this machine."""
    from mlnb.people import policy
    from mlnb.project import find
    from mlnb.serving.process import running

    project = find()
    policy(project, environment)  # says whether there is such an environment
    found = running(project.state / "serving" / environment)
    if len(found) != 1:
        listed = ", ".join(each["address"] for each in found) or "none"
        raise MlnbError(
            f"{len(found)} servers run on this machine: {listed}",
            where=environment,
            remedy="Name its URL, or start one: `mlnb serve`.",
        )
    return str(found[0]["address"])


def _endpoint(url: str) -> str:
    """Return the URL; of a server alone, that of MLflow's route."""
    parts = urlsplit(url)
    return url if parts.path.strip("/") else parts._replace(path="/invocations").geturl()


def _golden(environment: str) -> list[bytes]:
    """Return the golden requests of the version that was promoted to an environment."""
    from mlnb.deploy.context import published
    from mlnb.loadtest import bodies_of
    from mlnb.project import find
    from mlnb.store import open_store

    project = find()
    return bodies_of(open_store(project).get(published(project, environment).bundle).golden()[0])


def _lines(path: Path) -> list[bytes]:
    """Return the lines of a file, each of which is JSON."""
    try:
        found = [line for line in path.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise MlnbError(f"cannot be read: {error.strerror}", where=str(path)) from None
    for number, line in enumerate(found, 1):
        try:
            json.loads(line)
        except ValueError as error:
            raise MlnbError(f"is not JSON: {error}", where=f"{path}, body {number}") from None
    if not found:
        raise MlnbError("holds no bodies; each line is one", where=str(path))
    return found


def _headers(told: list[str], token: str | None) -> dict[str, str]:
    found = {}
    for each in told:
        name, equals, value = each.partition("=")
        if not (name and equals):
            raise MlnbError(f"a header is NAME=VALUE, not {each!r}")
        found[name] = value
    if token:
        if not os.environ.get(token):
            raise MlnbError(f"the environment has no variable {token}, or it is empty")
        found["Authorization"] = f"Bearer {os.environ[token]}"
    return found


def _sent(sent: int, total: int) -> None:
    done = sent * 20 // max(total, 1)
    bar = "█" * done + "░" * (20 - done)
    print(f"\r\033[K{bar} {sent} of {total} requests", end="", file=sys.stderr, flush=True)


def _share(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError(f"must be 0 to 1, not {text!r}")
    return found


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be 0 to 65535, not {text!r}")
    return int(text)


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"must be 1 to 256, not {text!r}")
    return int(text)
