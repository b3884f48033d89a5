"""People: who asks is found out or refused, and each command has a rule that holds."""

from __future__ import annotations

import argparse
import datetime
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import notebooks
from mlnb import cli, people
from mlnb.errors import MlnbError
from mlnb.files import digest_bytes
from mlnb.people import ROLES, RULES, PeopleError, RefusedError, tokens
from mlnb.project import find

TABLE = """
[tool.mlnb.people]
vera = { role = "viewer", git = "vera@example.org" }
tom = { role = "trainer", git = ["tom@example.org", "Tom@home.example.org"] }
ada = { role = "approver", git = "ada@example.org", jupyter = "ada-l" }
"""
NOW = datetime.datetime(2026, 11, 1, 12, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(days=8)
SHOWN = "The token is shown this once:"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in git with three people, nobody of whom is here."""
    root = notebooks.project(tmp_path / "project", dvc="stages: {}\n")
    (root / "pyproject.toml").write_text(TABLE)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    for variable in ("MLNB_TOKEN", "JUPYTERHUB_USER", "GIT_AUTHOR_EMAIL", "DVC_STAGE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("MLNB_EXECUTION", raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.chdir(root)
    return root


def be(root: Path, address: str) -> None:
    """Make ``address`` the one that git puts into commits here."""
    subprocess.run(["git", "config", "user.email", address], cwd=root, check=True)


# --- Who ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "name", "role"),
    [
        ("tom@example.org", "tom", "trainer"),
        ("TOM@home.example.org", "tom", "trainer"),
        ("ada@example.org", "ada", "approver"),
        ("eve@example.org", "eve@example.org", ""),
    ],
)
def test_git_tells_who_asks(address: str, name: str, role: str, root: Path) -> None:
    """An address of the table is that person, by any of them; another has no role."""
    be(root, address)
    assert people.who(find()) == people.Person(name, "git", role)


def test_the_hub_tells_who_asks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JupyterHub's name goes before git's address, and is the same person."""
    be(root, "tom@example.org")
    monkeypatch.setenv("JUPYTERHUB_USER", "ada-l")
    assert people.who(find()) == people.Person("ada", "jupyter", "approver")
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    assert people.who(find()).role == ""


def test_one_person_alone_may_do_everything(root: Path) -> None:
    """Without a table of people whoever git names is the owner; nobody at all is an error."""
    (root / "pyproject.toml").unlink()
    with pytest.raises(PeopleError, match=r"nobody is known here(.|\n)*git config user\.email"):
        people.who(find())
    be(root, "solo@example.org")
    assert people.who(find()) == people.Person("solo@example.org", "git", "approver")


def test_a_token_tells_who_asks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes before all else; only its digest is kept, in a file to commit."""
    be(root, "ada@example.org")
    made, text = tokens.new(find(), "tom", days=7, now=datetime.datetime.now(datetime.UTC))
    kept = (root / f"deployments/tokens/{made.id}.json").read_text()
    assert text not in kept and text.removeprefix("mlnb_") not in kept
    assert digest_bytes(text.encode()) in kept
    assert len(text) >= len("mlnb_") + 43  # 32 bytes
    monkeypatch.setenv("MLNB_TOKEN", text)
    assert people.who(find()) == people.Person("tom", "token", "trainer")
    assert made.person == "tom"


@pytest.mark.parametrize("text", ["", "mlnb_", "mlnb_" + "x" * 43])
def test_a_token_that_is_none_is_refused(
    text: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never passed over for git's address; an empty one is what CI gives without secret."""
    be(root, "ada@example.org")
    tokens.new(find(), "tom", days=7, now=NOW)
    monkeypatch.setenv("MLNB_TOKEN", text)
    with pytest.raises(RefusedError, match="none of this project"):
        people.who(find())


def test_a_token_ends(root: Path) -> None:
    """After its days, or when it is taken back, it is refused with the reason."""
    project = find()
    old, text = tokens.new(project, "tom", days=7, now=NOW)
    assert tokens.holder(project, text, now=NOW) == "tom"
    with pytest.raises(RefusedError, match=f"{old.id} of tom expired on 2026-11-08"):
        tokens.holder(project, text, now=LATER)
    for _ in range(2):
        assert tokens.revoke(project, old.id, now=NOW).revoked == NOW.isoformat()
    with pytest.raises(RefusedError, match="was revoked on 2026-11-01"):
        tokens.holder(project, text, now=NOW)
    with pytest.raises(PeopleError, match="no token 'nine'"):
        tokens.revoke(project, "nine", now=NOW)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "does not hold a token"),
        ('{"format": 2}', "has format 2"),
        ('{"format": 1, "id": "0"}', "does not hold a token"),
    ],
)
def test_a_damaged_file_of_tokens_lets_nobody_in(content: str, message: str, root: Path) -> None:
    """What cannot be read is an error, never an empty list."""
    path = root / "deployments/tokens/0.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(PeopleError, match=message):
        tokens.holder(find(), "mlnb_x", now=NOW)


def test_an_edited_token_is_no_token(root: Path) -> None:
    """A time without its zone, or a copy that lacks the revocation, makes it unusable."""
    made, _ = tokens.new(find(), "tom", days=7, now=NOW)
    path = root / f"deployments/tokens/{made.id}.json"
    text = path.read_text()
    path.write_text(text.replace("+00:00", ""))
    with pytest.raises(PeopleError, match="does not hold a token"):
        tokens.known_tokens(find())
    path.write_text(text)
    path.with_name("copy.json").write_text(text)
    with pytest.raises(PeopleError, match=r"copy\.json: does not hold a token"):
        tokens.known_tokens(find())


# --- What they may do --------------------------------------------------------------------------


def verbs() -> Iterator[list[str]]:
    """Yield the words of each command, with its action where it has some."""
    (commands,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        nested = [a for a in command._actions if isinstance(a, argparse._SubParsersAction)]
        yield from ([name, action] for each in nested for action in each.choices)
        if not nested:
            yield [name]


WORDS = {
    "promote": ["--to", "development", "--reason", "because"],
    "rollback": ["--to", "development", "--reason", "because"],
    "approve": ["1", "--to", "development", "--reason", "because"],
    "keys new": ["key"],
    "keys revoke": ["key"],
    "tokens new": ["tom"],
    "tokens revoke": ["nine"],
    **{
        f"deploy {action}": ["--env", "development", "--reason", "because"]
        for action in ("promote", "abort", "rollback")
    },
}
GUARDED = [words for words in verbs() if RULES.get(" ".join(words), "none")]


def test_each_command_has_a_rule() -> None:
    """The rules are exactly those of the commands and actions there are."""
    assert {" ".join(words) for words in verbs()} == set(RULES)
    assert set(RULES.values()) - {""} == set(ROLES)


def _asker(who: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Be somebody, and return the role that is expected of it."""
    if who in ("revoked", "expired"):
        be(root, "ada@example.org")  # who would be let in
        now = datetime.datetime.now(datetime.UTC)
        then = now - datetime.timedelta(days=8)
        made, text = tokens.new(find(), "ada", days=7, now=then if who == "expired" else now)
        if who == "revoked":
            tokens.revoke(find(), made.id, now=now)
        monkeypatch.setenv("MLNB_TOKEN", text)
        return ""
    be(root, {"viewer": "vera", "trainer": "tom", "approver": "ada"}.get(who, who) + "@example.org")
    return who if who in ROLES else ""


@pytest.mark.parametrize("words", GUARDED, ids=" ".join)
@pytest.mark.parametrize("who", ["none", *ROLES, "revoked", "expired"])
def test_the_matrix_of_roles(
    who: str,
    words: list[str],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each command is run as each kind of person: refused as the table says, and only then."""
    role = _asker(who, root, monkeypatch)
    verb = " ".join(words)
    before = {path for path in root.rglob("*") if ".git" not in path.parts}
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root.parent / "config"))
    code = cli.main([*words, *WORDS.get(verb, [])])
    said = capsys.readouterr().err
    allowed = bool(role) and ROLES.index(role) >= ROLES.index(RULES[verb])
    refused = any(text in said for text in ("may not `mlnb", " expired on ", "was revoked on"))
    assert refused is not allowed, said
    assert "Traceback" not in said
    if not allowed:
        assert code == 1
        assert {path for path in root.rglob("*") if ".git" not in path.parts} == before


def test_an_environment_may_demand_more(root: Path) -> None:
    """Production takes an approver by default; the policy of another environment is kept."""
    be(root, "tom@example.org")
    assert people.admit(find(), "promote", "staging").name == "tom"
    with pytest.raises(RefusedError, match=r"tom \(trainer\) may not `mlnb promote` to production"):
        people.admit(find(), "promote", "production")
    with pytest.raises(PeopleError, match=r"Did you mean 'production'\?"):
        people.admit(find(), "promote", "prodction")
    (root / "pyproject.toml").write_text(TABLE + '[tool.mlnb.policy.canary]\nrole = "approver"\n')
    with pytest.raises(RefusedError):
        people.admit(find(), "rollback", "canary")
    be(root, "ada@example.org")
    assert people.admit(find(), "rollback", "canary").name == "ada"


@pytest.mark.parametrize("variable", ["MLNB_EXECUTION", "DVC_STAGE"])
def test_a_run_decides_nothing(variable: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook that calls `mlnb promote` as it runs is refused; looking on it may."""
    be(root, "ada@example.org")
    monkeypatch.setenv(variable, "train")
    with pytest.raises(RefusedError, match="what is judged does not decide"):
        people.admit(find(), "promote", "staging")
    assert people.admit(find(), "history").name == "ada"


def test_a_command_without_a_rule_is_refused(root: Path) -> None:
    """Also for an approver."""
    be(root, "ada@example.org")
    with pytest.raises(RefusedError, match="no rule says who may"):
        people.admit(find(), "deploy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[tool.mlnb]\npeople = "ada"', "'people' .* must be a table"),
        ('[tool.mlnb.people]\nada = "approver"', "people.ada.* must be a table of role"),
        ('[tool.mlnb.people]\nada = { role = "aprover" }', "role is one of viewer, trainer"),
        ('[tool.mlnb.people]\nada = { role = "viewer", got = "x" }', "Did you mean 'git'"),
        ('[tool.mlnb.people]\nada = { role = "viewer", git = [1] }', "git and jupyter are texts"),
        (TABLE + 'eve = { role = "viewer", git = "ADA@example.org" }', "one person has one entry"),
        (TABLE + 'eve = { role = "viewer", jupyter = "tom" }', "one person has one entry"),
    ],
)
def test_wrong_tables_of_people_are_errors(text: str, message: str, root: Path) -> None:
    """Each is named with its table; nobody is let in meanwhile."""
    (root / "pyproject.toml").write_text(text)
    be(root, "ada@example.org")
    with pytest.raises(MlnbError, match=message):
        people.who(find())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("persons = 0", "persons is 1 or more"),
        ("persons = true", "persons is 1 or more"),
        ("persons = 4", "needs as many in"),
        ("person = 2", "Did you mean 'persons'"),
        ('role = "boss"', "role is one of"),
    ],
)
def test_wrong_policies_are_errors(text: str, message: str, root: Path) -> None:
    """Each is named with its table; nothing is promoted meanwhile."""
    (root / "pyproject.toml").write_text(f"{TABLE}[tool.mlnb.policy.production]\n{text}\n")
    be(root, "ada@example.org")
    with pytest.raises(PeopleError, match=message):
        people.admit(find(), "promote", "production")


# --- The commands ------------------------------------------------------------------------------


def test_tokens_by_the_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`new` shows it once, `list` never, `revoke` ends it."""
    be(root, "ada@example.org")
    assert cli.main(["tokens", "new", "tom", "--days", "30"]) == 0
    printed = capsys.readouterr().out
    assert SHOWN in printed
    text = next(word for word in printed.split() if word.startswith("mlnb_"))
    assert cli.main(["tokens", "list"]) == 0
    listed = capsys.readouterr().out
    assert "tom" in listed and text not in listed
    (kept,) = tokens.known_tokens(find())
    assert cli.main(["tokens", "revoke", kept.id]) == 0
    capsys.readouterr()
    assert cli.main(["tokens", "list"]) == 0
    assert "was revoked" in capsys.readouterr().out
    assert cli.main(["tokens", "new", "tim"]) == 2
    assert "Did you mean 'tom'?" in capsys.readouterr().err
