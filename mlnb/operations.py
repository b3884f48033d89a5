"""The commands of operations: serving, deploying; their words, and what they print.

As in :mod:`mlnb.cli`, each calls one function, and nothing heavy is imported before it is known.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

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


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be 0 to 65535, not {text!r}")
    return int(text)


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"must be 1 to 256, not {text!r}")
    return int(text)
