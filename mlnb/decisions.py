"""The commands of promotion: their words, and what they print.

As in :mod:`mlnb.cli`, each calls one function, and nothing heavy is imported before it is known.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Add = Callable[..., argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add the commands to the parser, by its ``add(NAME, COMMAND, SUMMARY)``."""
    promote = add("promote", _promote, "Judge the candidate again and make it what runs.")
    promote.add_argument(
        "what", nargs="?", default="", metavar="VERSION|CANDIDATE",
        help="which is meant: it must be the one that lies here",
    )  # fmt: skip
    _environment(promote)
    promote.add_argument("--reason", default="", metavar="TEXT", help="why; kept for ever")
    promote.add_argument(
        "--strategy", default="", choices=["canary", "blue-green", "shadow", "at-once"],
        help="how `mlnb deploy` rolls it out (default as in [tool.mlnb.rollout], else at-once)",
    )  # fmt: skip
    promote.add_argument("--dry-run", action="store_true", help="show what would change")
    promote.add_argument(
        "--wait", action="store_true", help="until MLflow's mirror and the hooks are told"
    )

    rollback = add("rollback", _rollback, "Go back to a version that ran before.")
    rollback.add_argument("version", nargs="?", type=int, metavar="VERSION")
    _environment(rollback)
    rollback.add_argument("--reason", default="", metavar="TEXT", help="why; kept for ever")
    rollback.add_argument(
        "--wait", action="store_true", help="until MLflow's mirror and the hooks are told"
    )

    approve = add("approve", _approve, "Agree to the promotion of a version.")
    approve.add_argument("version", type=int, metavar="VERSION")
    _environment(approve)
    approve.add_argument("--reason", default="agreed", metavar="TEXT", help="why")

    add("models", _models, "List the versions and where each runs.")
    history = add("history", _history, "Tell who changed what, when and why.")
    history.add_argument("--at", metavar="DATE", help="what ran where then: 2026-11-01[T09:30]")
    _environment(history, required=False)
    audit = add("audit", _audit, "Verify the journal and every signed statement.")
    audit.add_argument("action", nargs="?", choices=["verify"], help="what it does anyway")

    verify = add("verify-bundle", _verify_bundle, "Verify a bundle, and who signed for it.")
    verify.add_argument("what", metavar="PATH|DIGEST")

    compare = add("compare", _compare, "Compare candidates with each other and with production.")
    compare.add_argument(
        "runs", nargs="*", metavar="RUN",
        help="beginning of a digest, a version or an environment; the last ones by default",
    )  # fmt: skip
    compare.add_argument("--all", action="store_true", help="show equal columns, too")
    compare.add_argument("--metric", action="append", default=[], metavar="METRIC")
    compare.add_argument("--sort", default="", metavar="[-]COLUMN", help="the better first")
    compare.add_argument("--last", type=_count, metavar="N", help="only the N newest")
    compare.add_argument("--sweep", default="", metavar="NAME", help="the trials of a sweep")
    form = compare.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print it as JSON")
    form.add_argument("--md", action="store_true", help="print it as Markdown")
    form.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page of all runs that needs nothing else"
    )
    compare.add_argument(
        "--diff", action="store_true", help="what differs in parameters, data and code of two runs"
    )

    add("doctor", _doctor, "Find what does not agree with the state, and mend it.")


def _promote(options: argparse.Namespace) -> int:
    from mlnb import promotion
    from mlnb.project import find

    project = find()
    change = promotion.promote(
        project,
        options.to,
        what=options.what,
        reason=options.reason or ("a dry run" if options.dry_run else ""),
        dry_run=options.dry_run,
        strategy=options.strategy,
    )
    return _told(project, change, options)


def _rollback(options: argparse.Namespace) -> int:
    from mlnb import promotion
    from mlnb.project import find

    project = find()
    change = promotion.rollback(project, options.to, version=options.version, reason=options.reason)
    return _told(project, change, options)


def _told(project: Any, change: Any, options: argparse.Namespace) -> int:
    for line in change.words:
        print(line)
    if change.entry:
        before = "" if change.current is None else f", after version {change.current}"
        print(f"{change.environment} is at version {change.version}{before}: {change.bundle}")
        print(f"row {change.entry.number} of the journal; deployments/{change.environment}.json")
        if options.wait:
            from mlnb.promotion.after import finish

            for line in finish(project):
                print(f"note: {line}")
    return 0


def _approve(options: argparse.Namespace) -> int:
    from mlnb import promotion
    from mlnb.project import find

    entry = promotion.approve(find(), options.version, options.to, reason=options.reason)
    print(f"{entry.who} agrees to version {entry.version} in {entry.alias}: row {entry.number}")
    return 0


def _models(options: argparse.Namespace) -> int:
    from mlnb import promotion
    from mlnb.project import find

    versions, aliases = promotion.models(find())
    for version in versions:
        where = ", ".join(alias for alias, number in aliases.items() if number == version.number)
        print(
            f"{version.number:>4}  {version.registered_at[:16]}  {version.bundle[7:19]}"
            f"  candidate {version.candidate[:12]}  commit {version.commit[:12] or 'none':<12}"
            f"  {version.by}{f'  → {where}' if where else ''}"
        )
    if not versions:
        print("no version yet; `mlnb promote --to staging` makes the first")
    return 0


def _history(options: argparse.Namespace) -> int:
    from mlnb import promotion
    from mlnb.project import find

    project, environment = find(), options.to or ""
    if options.at:
        found = promotion.at(project, options.at, environment=environment)
        for name, entry in found.items():
            told = (
                f"version {entry.version}, since {_line(entry)}" if entry else "nothing was there"
            )
            print(f"{name}: {told}")
        if not found:
            print("nothing was promoted yet")
        return 0
    for entry in promotion.history(project, environment=environment):
        print(f"{entry.number:>5}  {_line(entry)}")
    return 0


def _line(entry: Any) -> str:
    what = {
        "register": f"registered version {entry.version}",
        "promote": f"promoted version {entry.version} to {entry.alias}",
        "rollback": f"rolled {entry.alias} back from {entry.previous} to version {entry.version}",
        "adopt": f"moved {entry.alias} to version {entry.version}, elsewhere",
        "approve": f"approved version {entry.version} for {entry.alias}",
        "record": f"recorded a verdict on version {entry.version}",
    }.get(entry.kind, entry.kind)
    verdict = f"  verdict {entry.verdict[7:19]}" if entry.verdict else ""
    reason = f": {' '.join(entry.reason.split())}" if entry.reason else ""
    return f"{entry.at[:19]}Z  {entry.who} {what}{reason}{verdict}"


def _audit(options: argparse.Namespace) -> int:
    from mlnb import promotion
    from mlnb.project import find

    report = promotion.audit(find())
    for fault in report.faults:
        print(f"row {fault.number} {fault.what}")
    print(
        f"{report.rows:,} rows and {report.anchors:,} signed statements: "
        + ("all agree" if report.sound else f"{len(report.faults)} faults")
    )
    return 0 if report.sound else 1


def _verify_bundle(options: argparse.Namespace) -> int:
    from mlnb import promotion
    from mlnb.project import find

    digest, statements = promotion.verify_bundle(find(), options.what)
    print(f"{digest}: every byte is as it was packed")
    for said, name in statements:
        print(f"  version {said.version} for {said.environment}, signed by {said.by}: {name}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    import json

    from mlnb import comparison
    from mlnb.comparison import terminal
    from mlnb.project import find

    project = find()
    if options.html:
        return _page(project, options.html)
    table = comparison.table(project)
    if options.diff:
        if len(options.runs) != 2:
            raise comparison.ComparisonError("--diff needs two runs")
        first, second = map(table.find, options.runs)
        differing = comparison.changes(project, table, first, second)
        if options.json:
            print(json.dumps({"format": terminal.FORMAT, "changes": differing}, indent=2))
        else:
            print(terminal.text_of(differing, fenced=options.md), end="")
        return 0
    what = terminal.view(
        project,
        table,
        options.runs,
        every=options.all,
        metrics=options.metric,
        sort=options.sort,
        last=options.last,
        sweep=options.sweep,
    )
    if options.json:
        print(json.dumps(terminal.document(project, what), indent=2, allow_nan=False))
    elif options.md:
        print(terminal.markdown(what), end="")
    else:
        terminal.draw(what)
    return 0


def _page(project: Any, path: Path) -> int:
    from mlnb.files import write_text
    from mlnb.widget import page, service

    header, buffers = service.state(project, details=True)
    write_text(path, page.page(header, buffers, title=f"Runs of {project.home.name}"))
    print(f"{path}: {header['rows']:,} runs")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from mlnb import promotion
    from mlnb.project import find

    findings = list(promotion.doctor(find()))
    for each in findings:
        print(f"{'mended' if each.mended else 'wrong':<6}  {each.what}")
    if not findings:
        print("all is well")
    return 0 if all(each.mended for each in findings) else 1


def _environment(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "--to", required=required, metavar="ENV", help="production, staging, development, …"
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text!r}")
    return int(text)
