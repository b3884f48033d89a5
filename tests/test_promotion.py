"""Promotion: nothing runs anywhere that was not judged, allowed, signed and written down."""

# ruff: noqa: F811 - a fixture is asked for by its name

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import promotion_acts as acts
import pytest
from promoted import alone, copied, first, published, second, state_of, third  # noqa: F401
from promotion_acts import PRODUCTION, git
from test_gate_command import write_params
from test_gates import AUC

from mlnb import cli, events, gate, people, pipeline, promotion, tracking, trust
from mlnb.errors import MlnbError
from mlnb.files import digest_bytes
from mlnb.project import find
from mlnb.promotion import BlockedError, PromotionError, after
from mlnb.state import ConflictError
from mlnb.tracking import registry

HIGH: dict[str, Any] = {"id": "high", "metric": "roc_auc", "min": 0.99}
PEOPLE = """
[tool.mlnb]
experiment = "rand"
[tool.mlnb.people]
tom = { role = "trainer", git = "tom@example.org" }
ada = { role = "approver", git = "ada@example.org" }
bea = { role = "approver", git = "bea@example.org" }
[tool.mlnb.policy.production]
persons = 2
"""


def everything(root: Path) -> dict[str, bytes]:
    """Return each file of a project but git's own and locks."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".git" not in path.parts and path.suffix != ".lock"
    }


# --- Promoting ---------------------------------------------------------------------------------


def test_versions_and_moves_are_tagged_as_gto_reads_them(first: Path, copied: Any) -> None:
    """GTO, which comes with DVC, sees which version is in production, at the commit it is of."""
    root = copied(first)
    trained = git(root, "rev-parse", "HEAD")
    settings = (root / "pyproject.toml").read_text().rstrip("\n")
    assert "[tool.mlnb]" in settings
    (root / "pyproject.toml").write_text(
        settings.replace("[tool.mlnb]", '[tool.mlnb]\nrelease-tags = "plain"', 1) + "\n"
    )
    git(root, "commit", "-qam", "Tag what is promoted")
    promotion.promote(find(), "production", reason="good enough")
    name = find().settings.experiment or "project"
    assert git(root, "tag").split() == [f"{name}#production#1", f"{name}@v1.0.0"]
    assert git(root, "log", "-1", "--format=%H", f"{name}@v1.0.0^{{commit}}") != trained
    shown = subprocess.run(
        [Path(sys.executable).with_name("gto"), "show", f"{name}#production"],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "v1.0.0" in shown
    (root / "pyproject.toml").write_text(
        settings.replace("[tool.mlnb]", '[tool.mlnb]\nrelease-tags = "all"', 1)
    )
    with pytest.raises(MlnbError, match="it may be plain or signed"):
        promotion.rollback(find(), "production", reason="no")


def test_a_promotion_is_recorded_signed_and_committed(
    first: Path, copied: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The journal, the signed statement, the store and git say the same of it."""
    root = copied(first)
    trained = git(root, "rev-parse", "HEAD")
    assert cli.main(["promote", "--to", "production", "--reason", "good enough"]) == 0
    assert "production is at version 1: sha256:" in capsys.readouterr().out
    state = state_of(root)
    assert state.aliases() == {"production": 1}
    register, move = state.journal()
    said = published(root)
    assert (register.kind, move.kind, move.who) == ("register", "promote", "ada@example.org")
    assert (said.version, said.counter, said.previous, said.rollback) == (1, 1, None, False)
    assert (said.by, said.reason) == ("ada@example.org", "good enough")
    assert said.head == (register.number, register.hash)
    assert said.commit == trained
    verdict = (root / "reports/gates.json").read_bytes()
    assert said.verdict == move.verdict == f"sha256:{digest_bytes(verdict)}"
    assert said.candidate == tracking.candidate(pipeline.load(find())).digest
    assert (root / ".mlnb/bundles" / said.bundle.removeprefix("sha256:")).is_dir()
    assert git(root, "show", "--format=%s", "--name-only").split("\n\n") == [
        "Promote version 1 in production",
        PRODUCTION,
    ]
    assert git(root, "status", "--porcelain") == ""


def test_a_dry_run_changes_nothing(
    second: Path, copied: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It shows alias, versions, gates, people and target, and writes no byte."""
    root = copied(second)
    before = everything(root)
    assert cli.main(["promote", "--to", "production", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "production would go from version 1 to version 2",
        "pass: auc, naive, champion",
        "ada@example.org of 1 that it takes",
        PRODUCTION,
    ):
        assert words in printed
    assert everything(root) == before


def test_a_blocked_candidate_cannot_be_promoted(
    first: Path, copied: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Judged again, it fails: exit 1, each failed rule with its figure, and nothing recorded."""
    root = copied(first)
    write_params(root, AUC, HIGH)
    acts.settle(root)
    assert cli.main(["promote", "--to", "staging", "--reason", "hope"]) == 1
    said = capsys.readouterr().err
    assert "the candidate is blocked" in said and "high" in said and "breaks 0.99" in said
    assert "fail  auc" not in said
    assert state_of(root).journal() == []
    assert not (root / "deployments/staging.json").exists()


def test_a_verdict_of_before_does_not_count(first: Path, copied: Any) -> None:
    """A file that says pass does not help: what counts is judged now, of what is here now."""
    root = copied(first)
    (root / "predictions.parquet").write_bytes(b"none")
    with pytest.raises(BlockedError, match="cannot be judged"):
        promotion.promote(find(), "staging", reason="hope")
    assert state_of(root).journal() == []


def test_what_the_commit_does_not_hold_is_refused(first: Path, copied: Any) -> None:
    """A changed file that no stage writes is named; a version must be makeable from its commit."""
    root = copied(first)
    with (root / ".gitignore").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(PromotionError, match=r"commit does not hold what is here: \.gitignore"):
        promotion.promote(find(), "staging", reason="good")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["promote", "--to", "production"], 2, "needs a reason"),
        (["promote", "--to", "production", "--reason", " "], 2, "needs a reason"),
        (["promote", "--to", "prodction", "--reason", "x"], 2, "Did you mean 'production'"),
        (["promote", "7", "--to", "production", "--reason", "x"], 2, "7 is not what lies here"),
        (["promote", "abcdef012345", "--to", "production", "--reason", "x"], 2, "is not what lies"),
        (["rollback", "--to", "staging", "--reason", "x"], 2, "nothing is in staging"),
        (["rollback", "--to", "production", "--reason", "x"], 2, "was in production before"),
        (["rollback", "2", "--to", "production", "--reason", "x"], 2, "did not run in"),
        (["approve", "9", "--to", "production"], 2, "there is no version 9"),
        (["history", "--at", "yesterday"], 2, "is no date"),
        (["verify-bundle", "0" * 64], 2, "no bundle"),
        (["verify-bundle", "models/bundle"], 1, "no statement that is published here names it"),
    ],
)
def test_what_makes_no_sense_changes_nothing(
    words: list[str],
    code: int,
    message: str,
    second: Path,
    copied: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each is told in a line or two, without a traceback, and the state stays as it was."""
    root = copied(second)
    before = state_of(root).journal()
    assert cli.main(words) == code
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert state_of(root).journal() == before


def test_again_is_no_change(second: Path, copied: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there already is said to be; another environment gets the same version."""
    root = copied(second)
    for _ in range(2):
        assert cli.main(["promote", "--to", "production", "--reason", "better"]) == 0
    assert "version 2 is in production already" in capsys.readouterr().out
    assert cli.main(["promote", "2", "--to", "staging", "--reason", "same"]) == 0
    assert state_of(root).aliases() == {"production": 2, "staging": 2}
    assert [row.kind for row in state_of(root).journal()] == [
        "register",
        "promote",
        "register",
        "promote",
        "promote",
    ]


@pytest.mark.parametrize("back", [False, True])
def test_a_move_behind_the_decision_is_a_conflict(
    back: bool, second: Path, copied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between judging and moving somebody else moved, and perhaps back: nothing is moved then."""
    root = copied(second)
    state, signed = state_of(root), trust.sign
    number = state.register(
        bundle=f"sha256:{'9' * 64}", candidate="", commit="", verdict="", by="eve"
    ).number

    def sign(*given: Any) -> bytes:
        state.move("production", number, expected=1, kind="promote", who="eve", reason="first")
        if back:
            state.move("production", 1, expected=number, kind="rollback", who="eve", reason="no")
        return signed(*given)

    monkeypatch.setattr(trust, "sign", sign)
    before = (root / PRODUCTION).read_bytes()
    kept = set((root / ".mlnb/statements").iterdir())
    told = "production has another statement" if back else "production is at version 2, not at"
    with pytest.raises(ConflictError, match=told):
        promotion.promote(find(), "production", reason="better")
    assert (root / PRODUCTION).read_bytes() == before
    assert set((root / ".mlnb/statements").iterdir()) == kept


# --- Rolling back ------------------------------------------------------------------------------


def test_a_rollback_is_a_statement_too(
    third: Path, copied: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the older version with a higher counter, and says that it goes back."""
    root = copied(third)
    assert cli.main(["rollback", "--to", "production", "--reason", "it drifts"]) == 0
    assert "production is at version 1, after version 2" in capsys.readouterr().out
    said = published(root)
    assert (said.version, said.counter, said.previous, said.rollback) == (1, 3, 2, True)
    assert "Roll back to version 1" in git(root, "log", "-1", "--format=%s")
    with pytest.raises(PromotionError, match="nothing was in production before version 1"):
        promotion.rollback(find(), "production", reason="further")
    assert cli.main(["promote", "2", "--to", "production", "--reason", "after all"]) == 0
    assert published(root).counter == 4


def test_an_older_candidate_is_not_promoted(third: Path, copied: Any) -> None:
    """Checked out again, version 1 passes its gates, but only a rollback goes back to it."""
    root = copied(third)
    acts.train(root, "binary-logistic")
    with pytest.raises(PromotionError, match=r"older than 2(.|\n)*mlnb rollback --to production 1"):
        promotion.promote(find(), "production", reason="older")


# --- People ------------------------------------------------------------------------------------


def test_two_people_for_production(
    first: Path, copied: Any, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is not enough, nor twice the same, nor one who may not; the second person is signed."""
    root = copied(first)
    (root / "pyproject.toml").write_text(PEOPLE)
    git(root, "commit", "-qam", "People")
    monkeypatch.setenv("MLNB_KEY", "ada")
    project = find()
    with pytest.raises(BlockedError, match=r"takes 2 people(.|\n)*mlnb approve 1 --to production"):
        promotion.promote(project, "production", reason="good")
    promotion.approve(project, 1, "production", reason="mine")
    with pytest.raises(BlockedError, match="1 more must"):
        promotion.promote(project, "production", reason="good")
    git(root, "config", "user.email", "tom@example.org")
    with pytest.raises(people.RefusedError, match=r"tom \(trainer\) may not"):
        promotion.approve(project, 1, "production", reason="mine, too")
    assert state_of(root).aliases() == {}
    git(root, "config", "user.email", "bea@example.org")
    promotion.approve(project, 1, "production", reason="seen")
    with pytest.raises(people.RefusedError, match="bea cannot sign with the key of ada"):
        promotion.promote(project, "production", reason="good")
    git(root, "config", "user.email", "ada@example.org")
    promotion.promote(project, "production", reason="good")
    assert published(root).approvers == ("bea",)
    assert state_of(root).aliases() == {"production": 1}


@pytest.mark.parametrize("how", ["missing", "revoked", "unknown"])
def test_no_trusted_key_no_promotion(
    how: str, first: Path, copied: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key that the project trusts nothing is judged or recorded."""
    root = copied(first)
    if how == "revoked":
        trust.revoke("ada", root / "deployments/keys", by="bea", reason="lost")
    else:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / how))
    if how == "unknown":
        trust.new_key("eve", tmp_path / "elsewhere" / "deployments" / "keys")
    with pytest.raises(MlnbError, match=r"no private key|was revoked|not trusted here"):
        promotion.promote(find(), "staging", reason="good")
    assert not (root / ".mlnb/state.db").exists()


def test_after_a_key_was_revoked_the_same_version_is_signed_anew(
    second: Path, copied: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revoked key stops what it signed; whoever is trusted signs the present version again."""
    root = copied(second)
    keys, path = root / "deployments/keys", root / "deployments/production.json"
    assert gate.check(find()).verdict == "pass"
    trust.revoke("ada", keys, by="bea", reason="lost")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "bea"))
    trust.new_key("bea", keys)
    with pytest.raises(trust.RevokedError, match="was revoked"):
        published(root)
    with pytest.raises(MlnbError, match=r"verdict on something else: deployments/keys changed"):
        gate.check(find())
    mine = path.read_bytes()
    path.write_bytes(mine.replace(b'"sig"', b'"sig" '))
    with pytest.raises(MlnbError, match="was edited"):
        promotion.rollback(find(), "production", version=1, reason="sign anew")
    path.write_bytes(mine)
    promotion.rollback(find(), "production", version=1, reason="sign anew")
    said = published(root)
    assert (said.version, said.counter, said.rollback) == (1, 2, True)
    assert state_of(root).aliases()["production"] == 1
    with pytest.raises(MlnbError, match="did not run"):
        promotion.rollback(find(), "production", version=1, reason="and again")


# --- Publishing --------------------------------------------------------------------------------


def test_what_is_staged_is_left_alone(first: Path, copied: Any) -> None:
    """With other changes staged the statement is published, and left to be committed by hand."""
    root = copied(first)
    (root / "deployments/notes.txt").write_text("mine")
    git(root, "add", "deployments/notes.txt")
    change = promotion.promote(find(), "staging", reason="good")
    assert any("not committed: other changes are staged" in word for word in change.words)
    assert git(root, "status", "--porcelain").splitlines() == [
        "A  deployments/notes.txt",
        "?? deployments/staging.json",
    ]


def test_a_hook_of_git_is_heard(first: Path, copied: Any) -> None:
    """A commit hook that refuses keeps the statement out of git, and out of the index."""
    root = copied(first)
    hook = root / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'not today' >&2\nexit 1\n")
    hook.chmod(0o755)
    change = promotion.promote(find(), "staging", reason="good")
    assert any("git refused: not today" in word for word in change.words)
    assert git(root, "status", "--porcelain") == "?? deployments/staging.json"
    assert published(root, "staging").version == 1


@pytest.mark.parametrize("spoil", ["gone", "other", "edited"])
def test_a_published_file_that_disagrees_is_seen(
    spoil: str, third: Path, copied: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next command puts back what was signed here; without that nothing is promoted."""
    root = copied(third)
    path = root / PRODUCTION
    right = path.read_bytes()
    other = git(root, "show", f"HEAD~2:{PRODUCTION}").encode() + b"\n"
    edited = right.replace(b'"payload": "', b'"payload": "e30', 1)
    kept = root / ".mlnb/statements"
    for lost in (False, True):
        if lost:
            shutil.rmtree(kept)
        if spoil == "gone":
            path.unlink()
        else:
            path.write_bytes(other if spoil == "other" else edited)
        capsys.readouterr()
        assert cli.main(["doctor"]) == (1 if lost else 0)
        printed = capsys.readouterr().out
        if lost:
            assert f"wrong   {PRODUCTION}" in printed
            assert cli.main(["promote", "--to", "production", "--reason", "x"]) != 0
        else:
            assert f"mended  repaired: {PRODUCTION} names version 2 now" in printed
            assert path.read_bytes() == right


# --- Looking back ------------------------------------------------------------------------------


def test_what_was_in_production_then(
    third: Path, copied: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """`history --at` answers for any moment; `history` and `models` list who, why and where."""
    root = copied(third)
    moves = [row for row in state_of(root).journal() if row.kind == "promote"]
    for moment, told in (
        (moves[0].at, "production: version 1, since"),
        (moves[1].at, "production: version 2, since"),
        (moves[1].at[:10], "production: version 2, since"),
        ("2020-01-01", "production: nothing was there"),
    ):
        assert cli.main(["history", "--at", moment, "--to", "production"]) == 0
        assert told in capsys.readouterr().out
    assert cli.main(["history"]) == 0
    printed = capsys.readouterr().out
    assert "ada@example.org promoted version 2 to production: better" in printed
    assert cli.main(["models"]) == 0
    one, two = capsys.readouterr().out.splitlines()
    assert two.endswith("→ production") and "production" not in one


def test_a_sound_record_is_said_to_be(
    third: Path, copied: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The journal agrees with itself and with each statement; so does the bundle in production."""
    root = copied(third)
    assert cli.main(["audit"]) == 0
    assert "4 rows and 2 signed statements: all agree" in capsys.readouterr().out
    assert cli.main(["verify-bundle", "models/bundle"]) == 0
    assert "version 2 for production, signed by ada@example.org" in capsys.readouterr().out
    assert cli.main(["verify-bundle", published(root).bundle]) == 0
    assert cli.main(["doctor"]) == 0


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("UPDATE mlnb_journal SET reason = 'none' WHERE number = 2", "row 2 was changed"),
        ("DELETE FROM mlnb_journal WHERE number = 4", "row 4 is missing: ada@example.org signed"),
        ("DELETE FROM mlnb_journal WHERE number > 1", "row 2 is missing"),
    ],
)
def test_an_edited_journal_is_seen(
    edit: str, message: str, third: Path, copied: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Edits, and an end that was cut off, show against the statements, which nothing replaces."""
    root = copied(third)
    with sqlite3.connect(root / ".mlnb/state.db") as journal:
        journal.execute(edit)
    journal.close()
    newest = (root / PRODUCTION).read_bytes()
    assert cli.main(["audit"]) == 1
    assert message in capsys.readouterr().out
    assert (root / PRODUCTION).read_bytes() == newest


def test_a_forged_move_is_seen(
    second: Path, copied: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who can write the state but has no key moves an alias: no statement says so."""
    root = copied(second)
    state = state_of(root)
    state.register(bundle=f"sha256:{'9' * 64}", candidate="", commit="", verdict="", by="eve")
    state.move("production", 2, expected=1, kind="promote", who="eve", reason="mine")
    assert cli.main(["audit"]) == 1
    printed = capsys.readouterr().out
    assert "row 4 moves production, and no signed statement says so" in printed
    assert cli.main(["promote", "--to", "production", "--reason", "x"]) == 2
    assert "names version 1, but the state has version 2" in capsys.readouterr().err


def test_a_bundle_that_is_missing_is_seen(
    third: Path, copied: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The doctor names the version whose bundle is not in the store."""
    root = copied(third)
    shutil.rmtree(root / ".mlnb/bundles" / published(root).bundle.removeprefix("sha256:"))
    assert cli.main(["doctor"]) == 1
    assert "wrong   the bundle of version 2" in capsys.readouterr().out


# --- Those who are told ------------------------------------------------------------------------


def test_hooks_are_told_and_hold_nobody_up(
    first: Path, copied: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hook that fails leaves the promotion done; its event waits, and the doctor says so."""
    root = copied(first)
    keep = "open('told.jsonl', 'a').write(__import__('sys').stdin.read() + chr(10))"
    (root / "keep.py").write_text(f"{keep}\n")
    (root / "pyproject.toml").write_text(
        "[tool.mlnb]\nexperiment = 'rand'\n[tool.mlnb.events]\n"
        f'log = {{ command = "{sys.executable} keep.py" }}\n'
        'bad = { command = "false" }\n'
    )
    git(root, "add", "keep.py")
    git(root, "commit", "-qam", "Hooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(after, "begin", lambda project: None)
        assert cli.main(["promote", "--to", "staging", "--reason", "good"]) == 0
    assert cli.main(["doctor"]) == 1
    assert "event hook bad: ended with 1" in capsys.readouterr().out
    (told,) = map(json.loads, (root / "told.jsonl").read_text().splitlines())
    assert (told["kind"], told["version"], told["reason"]) == ("promote", 1, "good")
    assert told["id"] == state_of(root).head().hash
    assert [each.hook for each in events.waiting(root / ".mlnb/outbox")] == ["bad"]


def test_nobody_waits_for_a_hook(first: Path, copied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook is told by a process that outlives the command."""
    root = copied(first)
    os.mkfifo(root / "fifo")
    (root / "pyproject.toml").write_text(
        '[tool.mlnb]\nexperiment = "rand"\n[tool.mlnb.events]\nlog = { command = "tee fifo" }\n'
    )
    git(root, "commit", "-qam", "Hooks")
    promotion.promote(find(), "staging", reason="good")
    with (root / "fifo").open() as fifo:  # opens when the hook does
        assert json.loads(fifo.read())["environment"] == "staging"


@pytest.mark.filterwarnings("ignore")
def test_mlflow_mirrors_it(third: Path, copied: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Versions, alias, verdict and statement are there; an alias moved there is put back."""
    root = copied(third)
    project = find()
    uri = tracking.ensure_store(project)
    assert list(after.finish(project)) == []
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    mirrored = client.get_model_version_by_alias("rand", "production")
    said = published(root)
    assert mirrored.tags["mlnb.version"] == "2"
    assert mirrored.tags["mlnb.bundle"] == said.bundle
    (move,) = (row for row in state_of(root).journal() if row.version == 2 and row.alias)
    assert mirrored.tags["mlnb.statement.production"] == move.statement
    assert cli.main(["doctor"]) == 0
    client.set_registered_model_alias("rand", "production", "1")
    assert registry.mirrored(project) == [registry.Alias("production", "1", "2")]
    capsys.readouterr()
    assert cli.main(["doctor"]) == 0
    assert (
        "alias production was moved behind our back: it is at version 1" in capsys.readouterr().out
    )
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out == "all is well\n"
    assert state_of(root).aliases() == {"production": 2}
