"""The command line. Each command calls one function; errors are caught here, once.

Nothing heavy is imported before the command that needs it is known.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mlnb import __version__, credentials, decisions, operations
from mlnb.errors import MlnbError

if TYPE_CHECKING:
    from mlnb.execute import Progress

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    options, rest = parser().parse_known_args(arguments)
    if rest and not hasattr(options, "words"):
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    options.words = rest
    if getattr(options, "command", None) is None:
        parser().print_help()
        return 2
    command: Command = options.command
    try:
        return command(options)
    except MlnbError as error:
        print(f"mlnb: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output (head, a pager) has left; there is nobody to tell.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        return 1
    except KeyboardInterrupt:
        print("mlnb: interrupted", file=sys.stderr)
        return 130


def entry() -> NoReturn:
    """Be the ``mlnb`` program."""
    sys.exit(main())


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="mlnb",
        description="Machine learning from a Jupyter notebook to production.",
        epilog="Plain `dvc repro` runs the pipeline; these commands are its stages and its checks.",
    )
    top.add_argument("--version", action="version", version=f"mlnb {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", title="commands")

    def add(name: str, command: Command, summary: str, **more: Any) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=summary, description=summary, **more)
        made.set_defaults(command=command)
        return made

    run = add("run", _run, "Run a notebook as its stage; by hand or as a command in dvc.yaml.")
    run.add_argument("notebook", type=Path)
    run.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override a value",
    )
    run.add_argument("--stage", default="", help="take the values of this stage")
    run.add_argument("--kernel", help="use this kernelspec instead of the notebook's own")
    run.add_argument("--deadline", type=_seconds, metavar="S", help="end the run after S seconds")
    run.add_argument(
        "--cell-deadline", type=_seconds, metavar="S", help="end it when a cell takes longer"
    )

    # Its words are for DVC's own parser.
    repro = add(
        "repro",
        _repro,
        "Run the pipeline as `dvc repro` does, independent stages at the same time.",
        add_help=False,
        allow_abbrev=False,
    )
    repro.set_defaults(words=[])

    worker = add("worker", _worker, "Look after the warm worker, which makes runs quick.")
    worker.add_argument("action", choices=("status", "stop", "log", "serve"))
    worker.add_argument("path", nargs="?", help=argparse.SUPPRESS)
    worker.add_argument("--json", action="store_true", help="print the status as JSON")

    add("code", _code, "Mirror the notebooks' code to .mlnb/code, which DVC watches.")

    lint = add("lint", _lint, "Check that notebooks, dvc.yaml and params.yaml agree.")
    lint.add_argument(
        "--fix", action="store_true", help="show what would mend it, as a diff, and mend it"
    )
    lint.add_argument("--json", action="store_true", help="print the findings as JSON")

    new = add("add", _add, "Propose a stage for a notebook.")
    new.add_argument("notebook", type=Path)
    new.add_argument("--name", help="name of the stage; the notebook's by default")
    new.add_argument(
        "--no-run", action="store_true", help="look at the code only, do not run it once"
    )
    new.add_argument("-y", "--yes", action="store_true", help="write it without asking")

    verify = add(
        "verify", _verify, "Run the pipeline again from what is declared only, and compare."
    )
    verify.add_argument("stages", nargs="*", metavar="STAGE", help="only these; all by default")
    verify.add_argument(
        "--rtol", type=float, default=1e-6, help="relative tolerance (default %(default)g)"
    )
    verify.add_argument(
        "--atol", type=float, default=1e-9, help="absolute tolerance (default %(default)g)"
    )

    sweep = add("sweep", _sweep, "Try many values: each trial is a candidate.")
    sweep.usage = (
        "mlnb sweep KEY=VALUES... --metric METRIC [-n N] [-j N] [--sampler tpe|random|grid]\n"
        "                  [--minimize] [--seed S] [--name NAME] [--json]\n"
        "       mlnb sweep apply RUN\n"
        "       mlnb sweep show NAME [--json]\n"
        "       mlnb sweep list"
    )
    sweep.add_argument(
        "what",
        nargs="+",
        metavar="KEY=VALUES",
        help="a dotted name of params.yaml (FILE:NAME for another file) and a,b,c or LOW:HIGH,"
        " LOW:HIGH:log, LOW:HIGH:step=S",
    )
    sweep.add_argument("--metric", metavar="METRIC", help="what to make the most of: STAGE.NAME")
    sweep.add_argument(
        "-n", "--trials", type=_count, metavar="N", help="trials in all (default 20; a grid's all)"
    )
    sweep.add_argument(
        "-j", "--jobs", type=_count, default=1, metavar="N", help="at the same time (default 1)"
    )
    sweep.add_argument("--sampler", default="tpe", help="tpe, random or grid (default tpe)")
    sweep.add_argument("--minimize", action="store_true", help="make the least of the metric")
    sweep.add_argument("--seed", type=int, default=0, metavar="S", help="of the sampler")
    sweep.add_argument("--name", default="", help="to go on with it, or to know it again")
    sweep.add_argument("--json", action="store_true", help="print the trials as JSON")

    package = add("package", _package, "Pack the model with all that judging and serving it needs.")
    package.add_argument(
        "--allow-pickle", action="store_true", help="accept a pickle and mark the bundle for ever"
    )

    gate = add("gate", _gate, "Judge the candidate by the gates of params.yaml.")
    gate.add_argument(
        "action", nargs="?", choices=["explain", "schema"],
        help="say of one rule what was found; or print the JSON schema of gates for editors",
    )  # fmt: skip
    gate.add_argument("rule", nargs="?", help="the rule to explain")
    gate.add_argument(
        "--check", action="store_true", help="compute nothing; exit 0 pass, 1 blocked, 2 no verdict"
    )

    decisions.add_commands(add)
    credentials.add_commands(add)
    operations.add_commands(add)

    add("track", _track, "Record the candidate as one MLflow run; again does no harm.")
    add("report", _report, "Render the executed notebooks to reports/*.html.")
    return top


def _run(options: argparse.Namespace) -> int:
    from mlnb.execute import Limits
    from mlnb.project import find
    from mlnb.run import Request, run

    project = find()
    settings = project.settings
    limits = Limits(
        run_deadline=settings.run_deadline if options.deadline is None else options.deadline,
        cell_deadline=settings.cell_deadline
        if options.cell_deadline is None
        else options.cell_deadline,
        output_cap=settings.output_cap_mb * 1e6,
    )
    request = Request(
        Path(os.path.abspath(options.notebook)),
        dict(_pair(text) for text in options.parameter),
        stage=options.stage,
        kernel=options.kernel,
        limits=limits,
    )
    line = ProgressLine(options.notebook.stem)
    with _terminable(), line:
        result = run(project, request, progress=line, echo=line.echo)
    if result.notice:
        print(f"note: {result.notice}")
    copy = project.relative(result.copy)
    print(f"{result.name}: {result.cells} cells in {result.seconds:.1f} s → {copy}")
    return 0


def _repro(options: argparse.Namespace) -> int:
    from mlnb.project import find
    from mlnb.reproduce import reproduce

    with _terminable():
        return reproduce(find(), options.words)


def _worker(options: argparse.Namespace) -> int:
    from mlnb.project import find
    from mlnb.worker import control

    project = find()
    if options.action == "serve":
        from mlnb import reproduce, sweep

        control.serve(
            project,
            Path(options.path),
            command=main,
            first=("mlnb.run:warm",),
            later=(
                "mlflow",
                "mlnb.tracking:prepare",
                "mlnb.reports:warm",
                *reproduce.PRELOAD,
                *sweep.PRELOAD,
            ),
        )
        return 0
    if options.action == "stop":
        print(control.stop(project))
        return 0
    if options.action == "log":
        print(control.log(project), end="")
        return 0
    found = control.status(project)
    print(json.dumps(found, indent=2) if options.json else control.told(found))
    return 0


def _code(options: argparse.Namespace) -> int:
    from mlnb.mirror import write_all
    from mlnb.project import find

    project = find()
    changed = write_all(project)
    for path in changed:
        print(f"{'updated' if path.exists() else 'removed'} {project.relative(path)}")
    if not changed:
        print("code mirrors are up to date")
    if "DVC_STAGE" in os.environ:
        # Notebooks are likely to run next: their worker can start while DVC goes on.
        from mlnb.worker import client

        client.ensure(str(project.root), os.environ)
    return 0


def _lint(options: argparse.Namespace) -> int:
    from mlnb import lint
    from mlnb.project import find

    project = find()
    if options.fix:
        _write(lint.fix(project), project.root)
    findings = lint.lint(project)
    print(lint.render_json(findings) if options.json else lint.render(findings))
    return 1 if any(finding.severity == "error" for finding in findings) else 0


def _add(options: argparse.Namespace) -> int:
    from mlnb import add
    from mlnb.project import find

    project = find()
    proposal = add.propose(project, options.notebook, name=options.name, observe=not options.no_run)
    for note in proposal.notes:
        print(f"note: {note}")
    if not _write(proposal.changes, project.root, ask=not options.yes):
        return 1
    print(f"Now run: dvc repro {proposal.stage}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from mlnb import verify
    from mlnb.project import find

    found = verify.verify(
        find(),
        stages=options.stages or None,
        rtol=options.rtol,
        atol=options.atol,
        progress=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(verify.format_verification(found))
    return 0 if found.passed else 1


def _sweep(options: argparse.Namespace) -> int:
    from mlnb import sweep
    from mlnb.project import find
    from mlnb.sweep import table

    project = find()
    verb, *names = options.what
    if verb == "list" and not names:
        table.show_all(sweep.sweeps(project))
        return 0
    if verb == "apply" and len(names) == 1:
        record, trial, changes = sweep.apply(project, names[0])
        _write(changes, project.root)
        print(f"These are the values of {record.name}/{trial.number}. Now run: dvc repro")
        return 0
    if verb == "show" and len(names) == 1:
        found = sweep.read(sweep.path_of(project, names[0]))
    else:
        from mlnb.run import warm

        with _terminable(), table.Progress() as progress:
            found = sweep.sweep(
                project, _sought(options), run=_in_process, warm=warm, watch=progress
            )
    if options.json:
        print(json.dumps(table.document(found), indent=2))
    else:
        table.show(found)
    return 0 if verb == "show" or found.best() else 1


def _sought(options: argparse.Namespace) -> Any:
    """Return what the command line asks a sweep for."""
    from mlnb import sweep

    if not options.metric:
        raise MlnbError(
            "a sweep needs --metric STAGE.NAME", remedy="`dvc metrics show` lists them."
        )
    return sweep.Request(
        space=tuple(options.what),
        metric=options.metric,
        trials=options.trials or 0,
        jobs=options.jobs,
        sampler=options.sampler,
        minimize=options.minimize,
        seed=options.seed,
        name=options.name,
    )


def _in_process(words: list[str]) -> None:
    """Run ``mlnb WORDS`` in this process, whose working directory and environment are its own."""
    options, rest = parser().parse_known_args(words)
    options.words = rest
    if code := options.command(options):
        raise MlnbError(f"`mlnb {' '.join(words)}` ended with {code}")


def _package(options: argparse.Namespace) -> int:
    from mlnb.package import package, told
    from mlnb.project import find

    project = find()
    for line in told(project, package(project, allow_pickle=options.allow_pickle)):
        print(line)
    return 0


def _gate(options: argparse.Namespace) -> int:
    from mlnb import gate
    from mlnb.project import find

    if options.action == "schema":
        print(gate.schema())
        return 0
    project = find()
    if options.action == "explain":
        for line in gate.explained(project, options.rule):
            print(line)
        return 0
    found = gate.check(project) if options.check else gate.gate(project)
    for line in gate.told(found):
        print(line)
    if found.verdict == "error":
        return 2
    return 1 if options.check and found.verdict == "blocked" else 0


def _track(options: argparse.Namespace) -> int:
    from mlnb import tracking
    from mlnb.pipeline import load
    from mlnb.project import find

    project = find()
    candidate = tracking.track(project, load(project)).candidate
    print(f"candidate {candidate.digest[:12]} is recorded in {tracking.ensure_store(project)}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from mlnb.project import find
    from mlnb.reports.stages import build_all

    project = find()
    for path in build_all(project):
        print(project.relative(path))
    return 0


def _write(changes: Sequence[Any], root: Path, ask: bool = False) -> bool:
    """Show ``changes`` as a diff and write them; return whether they are on disk now."""
    import difflib

    from mlnb import files

    for change in changes:
        name = os.path.relpath(change.path, root)
        diff = difflib.unified_diff(
            change.before.splitlines(keepends=True),
            change.after.splitlines(keepends=True),
            name,
            name,
        )
        sys.stdout.writelines(diff)
    if changes and ask and not _agreed():
        return False
    for change in changes:
        files.write_text(change.path, change.after)
    return True


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise MlnbError("nothing was written", remedy="Look at the diff, then repeat with --yes.")
    return input("Write this? [y/N] ").strip().lower() in ("y", "yes")


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise MlnbError(f"-p takes NAME=VALUE with a Python name, not {text!r}")
    return name, value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does, with its kernel."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


class ProgressLine:
    """Shows how far a run is: one line that changes on a terminal, a line now and then elsewhere.

    Hundreds of quick cells are not worth a line each: one comes when a cell is the last, or when a
    second has gone by since the one before.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._live = sys.stderr.isatty()
        self._pause = 0.1 if self._live else 1.0
        self._shown = -self._pause
        self._last = 0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def __call__(self, progress: Progress) -> None:
        """Show ``progress``."""
        is_last = progress.position == progress.total and progress.position != self._last
        if progress.seconds < self._shown + self._pause and not is_last:
            return
        text = f"{self._name}: cell {progress.position} of {progress.total}"
        if self._live:
            done = progress.position * 20 // max(progress.total, 1)
            bar = "█" * done + "░" * (20 - done)
            print(
                f"\r\033[K{bar} {text}  {progress.seconds:.0f} s",
                end="",
                file=sys.stderr,
                flush=True,
            )
        elif progress.position != self._last:
            print(f"{text}, {progress.seconds:.1f} s", file=sys.stderr, flush=True)
        else:
            return
        self._last, self._shown = progress.position, progress.seconds

    def echo(self, name: str, text: str) -> None:
        """Pass on what a cell prints, above the line."""
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        stream = sys.stdout if name == "stdout" else sys.stderr
        stream.write(text.encode(stream.encoding, "replace").decode(stream.encoding))
        stream.flush()


if __name__ == "__main__":
    entry()
