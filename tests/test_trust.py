"""Keys and statements: nothing is believed that no trusted key signed, nothing loaded before."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import pickle
import random
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bundles
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sklearn.linear_model import LogisticRegression
from statements import KEY, publish, statement

from mlnb import trust
from mlnb.bundle import Bundle, manifest, open_bundle, pack
from mlnb.bundle.manifest import File
from mlnb.errors import MlnbError
from mlnb.files import digest_bytes
from mlnb.store import Store
from mlnb.trust import TrustError, keys, read_published, sign, verify
from mlnb.trust import statement as statements

STRANGER = Ed25519PrivateKey.generate()
PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
PLAIN = serialization.NoEncryption()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a person's private keys, empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLNB_KEY", raising=False)
    return tmp_path / "home" / "mlnb" / "keys"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a project's public keys; `tester` is trusted."""
    made = tmp_path / "project" / "deployments" / "keys"
    trust.admit("tester", KEY.public_key(), made)
    return made


# --- Keys ------------------------------------------------------------------------------------


def test_a_new_key_is_private_and_its_public_half_trusted(home: Path, folder: Path) -> None:
    """The private half is for its owner alone and outside the project; what it signs verifies."""
    made = trust.new_key("ada", folder)
    private = home / "ada.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert [path.name for path in home.iterdir()] == ["ada.pem"]
    assert "PRIVATE" not in (folder / "ada.json").read_text()
    assert trust.trusted(folder)[made.keyid] == made and made.name == "ada"
    envelope = sign(statement(), trust.load_private("ada"))
    assert verify(envelope, trust.trusted(folder), environment="production") == statement()


def test_a_key_serves_several_projects(home: Path, folder: Path, tmp_path: Path) -> None:
    """In a second project the key that a person has is taken, not replaced."""
    first = trust.new_key("ada", folder)
    second = trust.new_key("ada", tmp_path / "other" / "deployments" / "keys")
    assert first.keyid == second.keyid
    with pytest.raises(TrustError, match=r"ada\.json: is there already"):
        trust.new_key("ada", folder)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".hidden", "x" * 65, "é", "a\n"])
def test_a_name_is_no_path(name: str, home: Path, folder: Path) -> None:
    """A name that is not plain is refused, and nothing is written."""
    with pytest.raises(TrustError, match="no name for a key"):
        trust.new_key(name, folder)
    assert not home.exists() and len(list(folder.iterdir())) == 1


def test_a_private_key_is_never_in_the_repository(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a person's folder lies within the project, no key is made."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder.parent.parent / "config"))
    with pytest.raises(TrustError, match="lies within the project"):
        trust.new_key("ada", folder)
    assert not (folder.parent.parent / "config").exists()


def test_a_relative_folder_of_settings_does_not_count(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As its specification says; the key goes where it goes without the variable."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "here")
    trust.new_key("ada", tmp_path / "project" / "deployments" / "keys")
    assert (tmp_path / "me/.config/mlnb/keys/ada.pem").exists()


def test_which_key_signs(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only one there is; of several the one that is named."""
    with pytest.raises(TrustError, match="mlnb keys new NAME"):
        trust.load_private()
    ada = trust.new_key("ada", folder)
    assert keys.keyid(trust.load_private().public_key()) == ada.keyid
    bob = trust.new_key("bob", folder)
    with pytest.raises(TrustError, match=r"several private keys: ada, bob\n.*MLNB_KEY=ada"):
        trust.load_private()
    monkeypatch.setenv("MLNB_KEY", "bob")
    assert keys.keyid(trust.load_private().public_key()) == bob.keyid
    with pytest.raises(TrustError, match=r"eve\.pem: no private key here"):
        trust.load_private("eve")


def test_a_private_key_that_others_may_read_is_refused(home: Path, folder: Path) -> None:
    """Whoever could read it may have signed with it."""
    trust.new_key("ada", folder)
    (home / "ada.pem").chmod(0o640)
    with pytest.raises(TrustError, match="others may read it"):
        trust.load_private()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a private key"),
        (b"\xff" * 100, "not a private key"),
        (
            KEY.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x")),
            "not a private key without password",
        ),
        (ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, PLAIN), "Ed25519"),
        (ed448.Ed448PrivateKey.generate().private_bytes(PEM, PKCS8, PLAIN), "Ed25519"),
    ],
)
def test_what_is_no_private_key_is_refused(content: bytes, message: str, home: Path) -> None:
    """A file that is damaged, locked by a password or of another kind is said to be so."""
    home.mkdir(parents=True)
    (home / "ada.pem").write_bytes(content)
    (home / "ada.pem").chmod(0o600)
    with pytest.raises(TrustError, match=message):
        trust.load_private()


def _edit(path: Path, **change: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


SPOILT: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: path.write_text(""), "is not a public key"),
    (lambda path: path.write_text("[]"), "has format None"),
    (lambda path: path.write_text("[" * 100_000), "is not a public key"),
    (lambda path: _edit(path, format=2), "has format 2"),
    (lambda path: _edit(path, format=True), "has format True"),
    (lambda path: _edit(path, more=1), "is not a public key"),
    (lambda path: _edit(path, revoked=False), "is not a public key"),
    (lambda path: _edit(path, public="x"), "is not a public key"),
    (lambda path: _edit(path, public=_other_kind()), "not a key of Ed25519"),
    (lambda path: _edit(path, public=_pem(KEY) + "\n"), "is not a public key"),
    (lambda path: _edit(path, name="ada"), "says that it is the key of 'ada'"),
    (lambda path: shutil.copy(path, path.with_name("z.json")), "says that it is the key of"),
    (lambda path: _folder(path), "cannot be read"),
]


def _folder(path: Path) -> None:
    """Put an empty folder in the place of a file or folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.mkdir()


def _pem(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(PEM, SPKI).decode()


def _other_kind() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(PEM, SPKI).decode()


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_a_damaged_folder_of_keys_trusts_nobody(
    spoil: Callable[[Path], Any], message: str, folder: Path
) -> None:
    """A file that is no key, or claims another name, is an error for the whole folder."""
    spoil(folder / "tester.json")
    with pytest.raises(TrustError, match=message):
        trust.trusted(folder)


def test_a_revoked_key_stays_revoked(folder: Path) -> None:
    """It keeps its file and its name; neither a copy nor a new key undoes that."""
    known = trust.trusted(folder)
    revoked = trust.revoke("tester", folder, by="grace", reason="laptop stolen")
    assert trust.trusted(folder)[revoked.keyid].revoked == revoked.revoked
    assert trust.revoke("tester", folder, by="eve", reason="?").revoked == revoked.revoked
    envelope = sign(statement(), KEY)
    verify(envelope, known, environment="production")
    with pytest.raises(TrustError, match=r"was revoked at .* by grace: laptop stolen"):
        verify(envelope, trust.trusted(folder), environment="production")
    with pytest.raises(TrustError, match="is there already"):
        trust.admit("tester", STRANGER.public_key(), folder)
    with pytest.raises(TrustError, match="is the key of tester, too"):
        trust.admit("copy", KEY.public_key(), folder)
    copy = dataclasses.replace(revoked, name="copy", revoked=None)
    (folder / "copy.json").write_text(json.dumps(dataclasses.asdict(copy)))
    with pytest.raises(TrustError, match="is the key of copy, too"):
        trust.trusted(folder)


def test_an_unknown_key_cannot_be_revoked(folder: Path) -> None:
    """A slip in the name is an error with the name that was meant."""
    with pytest.raises(TrustError, match="Did you mean 'tester'"):
        trust.revoke("testr", folder, by="grace", reason="x")


def test_without_a_folder_nobody_is_trusted(tmp_path: Path) -> None:
    """A project without keys is no error; a signed statement in it is one."""
    assert trust.trusted(tmp_path / "keys") == {}
    with pytest.raises(TrustError, match="which nobody here trusts"):
        verify(sign(statement(), KEY), {}, environment="production")


# --- Statements ------------------------------------------------------------------------------


def test_openssl_verifies_what_we_sign(folder: Path, tmp_path: Path) -> None:
    """A stranger needs no mlnb: the standards' own words, and OpenSSL, which knows none of ours."""
    content = json.loads(sign(statement(), KEY))
    payload = base64.b64decode(content["payload"])
    kind = content["payloadType"]
    assert kind == "application/vnd.in-toto+json"
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    (tmp_path / "signed").write_bytes(signed)
    (tmp_path / "sig").write_bytes(base64.b64decode(content["signatures"][0]["sig"]))
    (tmp_path / "key").write_text(json.loads((folder / "tester.json").read_text())["public"])
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key", "-rawin"]
    command += ["-in", "signed", "-sigfile", "sig"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Signature Verified Successfully" in found.stdout, found.stderr
    (tmp_path / "signed").write_bytes(signed + b" ")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 1
    told = json.loads(payload)
    assert told["_type"] == "https://in-toto.io/Statement/v1"
    assert told["subject"] == [{"name": "bundle", "digest": {"sha256": "1" * 64}}]
    assert (told["predicateType"], told["predicate"]["format"]) == ("mlnb:promotion/v1", 1)


def test_the_same_statement_has_the_same_bytes() -> None:
    """Nothing but what it says and who signs reaches the file."""
    assert sign(statement(), KEY) == sign(statement(), KEY)
    assert sign(statement(), KEY) != sign(statement(), STRANGER)
    assert sign(statement(strategy={"b": 1, "a": 2.5}), KEY) == sign(
        statement(strategy={"a": 2.5, "b": 1}), KEY
    )


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"previous": None, "head": None, "approvers": (), "commit": ""},
        {"version": 1, "rollback": True, "reason": 'Größer ≠ besser: "x"\n\u2028\U0001f600'},
        {"strategy": {"kind": "canary", "steps": [1, 5.5, None, True]}},
        {"environment": "eu-west_2", "at": "2026-11-01T12:00:00.5Z"},
    ],
)
def test_what_was_signed_is_what_is_read(more: dict[str, Any], folder: Path) -> None:
    """Each field comes back as it was, whatever it says."""
    said = statement(**more)
    found = verify(sign(said, KEY), trust.trusted(folder), environment=said.environment)
    assert found == said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"environment": "../x"}, "environment '../x'"),
        ({"environment": ""}, "environment ''"),
        ({"version": 0}, "version 0"),
        ({"counter": 0}, "counter 0"),
        ({"bundle": "1" * 64}, "bundle '1"),
        ({"verdict": ""}, "verdict ''"),
        ({"data": f"sha256:{'A' * 64}"}, "data 'sha256:A"),
        ({"candidate": "x"}, "candidate 'x'"),
        ({"at": "2026-11-01"}, "at '2026-11-01'"),
        ({"at": "2026-13-01T12:00:00Z"}, "at '2026-13"),
        ({"by": " "}, "by ' '"),
        ({"reason": ""}, "reason ''"),
        ({"previous": 4}, "version 3 is older than 4.*\n.*mlnb rollback --to production 3"),
    ],
)
def test_a_statement_that_cannot_be_is_not_made(more: dict[str, Any], message: str) -> None:
    """What is no digest, no moment, or a step back that does not say so is refused."""
    with pytest.raises(TrustError, match=message):
        statement(**more)


@pytest.mark.parametrize("strategy", [{"x": float("nan")}, {"x": object()}, {"x": "\ud800"}])
def test_what_json_cannot_say_is_not_signed(strategy: dict[str, Any]) -> None:
    """It is told before a signature is made."""
    with pytest.raises(TrustError, match="a statement cannot say that"):
        sign(statement(strategy=strategy), KEY)


def signed(content: Any, key: Ed25519PrivateKey = KEY) -> bytes:
    """Return an envelope around any payload, properly signed: only its content can be wrong."""
    payload = content if isinstance(content, bytes) else _canonical(content)
    return enclosed(payload, keys.keyid(key.public_key()), key.sign(trust.pae(payload)))


def enclosed(payload: bytes, keyid: str, signature: bytes) -> bytes:
    """Return an envelope in its canonical form."""
    content = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"keyid": keyid, "sig": base64.b64encode(signature).decode()}],
    }
    return _canonical(content) + b"\n"


def _canonical(content: Any) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode()


def _payload(**change: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(statement().payload)
    return found | change


def _predicate(**change: Any) -> dict[str, Any]:
    return _payload(predicate=_payload()["predicate"] | change)


def test_the_forgers_of_this_test_can_make_a_good_one(folder: Path) -> None:
    """What they give back unchanged is accepted: so what is refused below is refused for cause."""
    envelope = signed(_payload())
    assert envelope == sign(statement(), KEY)
    assert verify(envelope, trust.trusted(folder), environment="production") == statement()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_predicate(format=2), "format 2; this mlnb reads"),
        (_predicate(format=True), "format True"),
        (_payload(predicateType="https://slsa.dev/provenance/v1"), "is of type 'https://slsa"),
        (_payload(_type="https://in-toto.io/Statement/v0.1"), "form that mlnb writes"),
        (_payload(subject=_payload()["subject"] * 2), "form that mlnb writes"),
        (_payload(subject=[]), "is not a statement"),
        (_payload(more=1), "form that mlnb writes"),
        (_predicate(more=1), "is not a statement"),
        (_predicate(version="3"), "is not a statement"),
        (_predicate(version=3.0), "is not a statement"),
        (_predicate(rollback=1), "is not a statement"),
        (_predicate(head=[1]), "is not a statement"),
        (_predicate(version=0), "cannot say version 0"),
        (json.dumps(_payload()).encode(), "form that mlnb writes"),
        ([], "is not a statement"),
        (b"", "is not a statement"),
        (b"\x80", "is not a statement"),
        (b"[" * 100_000, "is not a statement"),
    ],
)
def test_a_trusted_key_does_not_make_nonsense_true(
    content: Any, message: str, folder: Path
) -> None:
    """What is signed and not understood in full is refused, above all a format of tomorrow."""
    with pytest.raises(TrustError, match=message):
        verify(signed(content), trust.trusted(folder), environment="production")


GOOD = sign(statement(), KEY)


def _respelt(**change: Any) -> bytes:
    return _canonical(json.loads(GOOD) | change) + b"\n"


@pytest.mark.parametrize(
    ("envelope", "message"),
    [
        (b"", "is not a signed statement"),
        (b"{}", "is not a signed statement"),
        (b"[" * 100_000, "is not a signed statement"),
        (b"\xff\xfe", "is not a signed statement"),
        (b'{"format": 1, "production": null}', "is not a signed statement"),
        (b" " * (2 << 20), "is longer than"),
        (GOOD.strip(), "was edited"),
        (GOOD + b"\n", "was edited"),
        (json.dumps(json.loads(GOOD)).encode(), "was edited"),
        (_respelt(payloadType="text/plain"), "was edited"),
        (_respelt(more=1), "was edited"),
        (_respelt(signatures=[]), "is not a signed statement"),
        (_respelt(signatures=json.loads(GOOD)["signatures"] * 2), "is not a signed statement"),
        (_respelt(signatures=[{"keyid": "", "sig": ""}]), "which nobody here trusts"),
        (_respelt(payload=""), "was changed since tester signed it"),
        (_respelt(payload="a"), "is not a signed statement"),
        (sign(statement(), STRANGER), "which nobody here trusts"),
        (
            enclosed(
                statement().payload,
                keys.keyid(KEY.public_key()),
                STRANGER.sign(trust.pae(statement().payload)),
            ),
            "was changed since tester signed it",
        ),
        (
            enclosed(
                statement().payload, keys.keyid(KEY.public_key()), KEY.sign(statement().payload)
            ),
            "was changed since tester signed it",
        ),
    ],
)
def test_what_nobody_signed_is_refused(envelope: bytes, message: str, folder: Path) -> None:
    """Unsigned, edited, signed by a stranger, in a trusted name, or for another use."""
    with pytest.raises(TrustError, match=message):
        verify(envelope, trust.trusted(folder), environment="production")


def test_an_older_statement_is_refused(folder: Path) -> None:
    """Neither the same nor an older one, nor a rollback of former days, can be played again."""
    known = trust.trusted(folder)
    for said in (statement(), statement(version=1, rollback=True)):
        envelope = sign(said, KEY)
        assert verify(envelope, known, environment="production", after=6) == said
        for seen in (7, 8):
            with pytest.raises(TrustError, match=f"statement 7 .* but statement {seen}"):
                verify(envelope, known, environment="production", after=seen)


def test_a_statement_is_on_one_environment(folder: Path) -> None:
    """What may run in staging is not thereby allowed in production."""
    envelope = sign(statement(environment="staging"), KEY)
    with pytest.raises(TrustError, match="a statement on 'staging', not on 'production'"):
        verify(envelope, trust.trusted(folder), environment="production")


# --- What is published -----------------------------------------------------------------------


def test_nothing_is_only_what_says_nothing(folder: Path) -> None:
    """Only the one form means that nothing runs; all else is a signed statement or an error."""
    path = folder.parent / "production.json"
    known = trust.trusted(folder)
    for nothing in (trust.nothing("production"), '{"production": null,\n "format": 1}'):
        path.write_text(nothing)
        assert read_published(path, known) is None
    for other in (
        '{"format": 2, "production": null}',
        '{"format": true, "production": null}',
        '{"format": 1, "staging": null}',
        '{"format": 1, "production": null, "more": 1}',
        '{"format": 1, "production": {"version": "3", "bundle": "sha256:00"}}',
        "null",
        "",
        "[" * 100_000,
    ):
        path.write_text(other)
        with pytest.raises(TrustError, match=r"production\.json: is not a signed statement"):
            read_published(path, known)
    path.unlink()
    with pytest.raises(TrustError, match=r"cannot be read: .*\n.*commit it saying .*null"):
        read_published(path, known)


def test_nothing_is_refused_once_something_was_seen(folder: Path) -> None:
    """Nobody signs that nothing runs, so whoever saw a statement does not believe it."""
    path = folder.parent / "production.json"
    path.write_text(trust.nothing("production"))
    with pytest.raises(TrustError, match="nothing runs in production, but statement 7 was seen"):
        read_published(path, trust.trusted(folder), after=7)


# --- A thousand tampers ----------------------------------------------------------------------

FIRED: list[str] = []
"""What was constructed: the marks of the pickles below, which run code when they are loaded."""


class Loud(LogisticRegression):  # type: ignore[misc]
    """A model that tells when it is constructed."""

    mark = "good"

    def __setstate__(self, state: dict[str, Any]) -> None:
        FIRED.append(self.mark)
        super().__setstate__(state)


class Evil(Loud):
    """The same of somebody who wants it to be loaded instead."""

    mark = "evil"


class Deployment:
    """A project with a published pickle: the bundle that an attacker gains most from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.published = root / "deployments/production.json"
        self.key = root / "deployments/keys/tester.json"
        (self.bundle,) = (path for path in (root / ".mlnb/bundles").iterdir())
        self.files = sorted(self.bundle.iterdir())

    def load(self, after: int | None = 6) -> Any:
        """Load the model that is in production, as whoever serves it does."""
        return self.get(after).model()

    def get(self, after: int | None = 6) -> Bundle:
        """Return its bundle."""
        known = trust.trusted(self.published.parent / "keys")
        found = read_published(self.published, known, after=after)
        assert found is not None
        return Store(self.root / ".mlnb/bundles").get(found.bundle, allow_marks=True)

    def refuses(self) -> bool:
        """Return whether nothing was loaded, and nothing constructed on the way."""
        FIRED.clear()
        with pytest.raises(MlnbError):
            self.load()
        return not FIRED


def pickled(root: Path, model: Loud) -> Bundle:
    """Pack a model as a pickle, with a person's permission."""
    recipe = bundles.recipe(root)
    table = bundles.rows()
    model.fit(table[["age", "visits"]], table["yes"])
    (root / "model.pkl").write_bytes(pickle.dumps(model))
    return pack(dataclasses.replace(recipe, model="model.pkl"), root / "bundle", allow_pickle=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A deployed project, and the bundle of an attacker; no test changes them."""
    root = tmp_path_factory.mktemp("deployed")
    publish(root / "project", pickled(root, Loud()), version=3, previous=2)
    return root / "project", pickled(root, Evil())


@pytest.fixture
def deployed(made: tuple[Path, Bundle], tmp_path: Path) -> Deployment:
    """A copy of it to tamper with."""
    return Deployment(Path(shutil.copytree(made[0], tmp_path / "copy")))


def test_the_payload_fires_when_nothing_is_wrong(
    deployed: Deployment, made: tuple[Path, Bundle]
) -> None:
    """The control: what the tests below wait for in vain happens here, for both models."""
    FIRED.clear()
    deployed.load()
    assert FIRED == ["good"]
    made[1].save(deployed.root / "evil")
    open_bundle(deployed.root / "evil", allow_marks=True).model()
    assert FIRED == ["good", "evil"]


def test_seven_hundred_flipped_bits(deployed: Deployment) -> None:
    """Any bit of any file, of the statement, or of the key that is trusted."""
    chance, trials = random.Random(1), 0
    everything = [*deployed.files, deployed.published, deployed.key]
    for _ in range(700):
        path = chance.choice(everything)
        data = bytearray(path.read_bytes())
        place = chance.randrange(len(data))
        data[place] ^= 1 << chance.randrange(8)
        before = path.read_bytes()
        path.write_bytes(data)
        assert deployed.refuses(), f"{path.name} at {place}"
        path.write_bytes(before)
        trials += 1
    FIRED.clear()
    deployed.load()
    assert (trials, FIRED) == (700, ["good"])


def test_two_hundred_edited_statements(deployed: Deployment) -> None:
    """A bit of what is said or of the signature, in an envelope that is otherwise in order."""
    chance = random.Random(2)
    content = json.loads(deployed.published.read_bytes())
    payload = base64.b64decode(content["payload"])
    signature = base64.b64decode(content["signatures"][0]["sig"])
    keyid = content["signatures"][0]["keyid"]
    assert enclosed(payload, keyid, signature) == deployed.published.read_bytes()
    for trial in range(200):
        said, proof = bytearray(payload), bytearray(signature)
        changed = said if trial % 2 else proof
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        deployed.published.write_bytes(enclosed(bytes(said), keyid, bytes(proof)))
        assert deployed.refuses()


def test_a_hundred_truncated_files(deployed: Deployment) -> None:
    """A file that ends early, or goes on for longer."""
    chance = random.Random(3)
    for trial in range(100):
        path = chance.choice([*deployed.files, deployed.published, deployed.key])
        before = path.read_bytes()
        end = chance.randrange(len(before))
        path.write_bytes(before[:end] if trial % 4 else before + before[end:])
        assert deployed.refuses(), f"{path.name} at {end}"
        path.write_bytes(before)


def _swap(deployed: Deployment, one: str, other: str) -> None:
    first, second = deployed.bundle / one, deployed.bundle / other
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


def _link(deployed: Deployment, name: str) -> None:
    path = deployed.bundle / name
    path.rename(deployed.root / name)
    path.symlink_to(deployed.root / name)


def _remove(deployed: Deployment, name: str) -> None:
    (deployed.bundle / name).unlink()


def _pipe(deployed: Deployment, name: str) -> None:
    (deployed.bundle / name).unlink()
    os.mkfifo(deployed.bundle / name)


def _hide(deployed: Deployment, name: str) -> None:
    (deployed.bundle / name).parent.mkdir(exist_ok=True)
    (deployed.bundle / name).write_text("hidden")


def _publish(deployed: Deployment, key: Ed25519PrivateKey = KEY, **more: Any) -> None:
    number = deployed.bundle.name
    said = {"bundle": f"sha256:{number}"} | more
    deployed.published.write_bytes(sign(statement(**said), key))


def _revoke(deployed: Deployment) -> None:
    trust.revoke("tester", deployed.key.parent, by="grace", reason="stolen")


def _admit_stranger(deployed: Deployment) -> None:
    """Their key in the place of the trusted one, under its name, as a push to a branch would."""
    deployed.key.unlink()
    trust.admit("tester", STRANGER.public_key(), deployed.key.parent)


def _move(deployed: Deployment, name: str, to: str) -> None:
    (deployed.bundle / name).rename(deployed.bundle / to)


TAMPERS: dict[str, Callable[[Deployment], Any]] = {
    "added": lambda it: _hide(it, "more.py"),
    "hidden": lambda it: _hide(it, ".git/x"),
    "hidden file": lambda it: _hide(it, ".gitignore"),
    "empty folder": lambda it: (it.bundle / "empty").mkdir(),
    "folder for a file": lambda it: _folder(it.bundle / "golden.json"),
    "no bundle": lambda it: shutil.rmtree(it.bundle),
    "empty bundle": lambda it: _folder(it.bundle),
    "swapped": lambda it: _swap(it, "schema.json", "golden.json"),
    "swapped with the manifest": lambda it: _swap(it, "manifest.json", "golden.json"),
    "wrong key": lambda it: _publish(it, STRANGER),
    "revoked key": _revoke,
    "another's key in its name": _admit_stranger,
    "no keys": lambda it: shutil.rmtree(it.key.parent),
    "replayed": lambda it: _publish(it, counter=6),
    "replayed rollback": lambda it: _publish(it, counter=5, version=1, rollback=True),
    "of staging": lambda it: _publish(it, environment="staging"),
    "of another bundle": lambda it: _publish(it, bundle=f"sha256:{'0' * 64}"),
    "unsigned": lambda it: it.published.write_text(
        f'{{"format": 1, "production": {{"version": "3", "bundle": "sha256:{it.bundle.name}"}}}}'
    ),
    "nothing": lambda it: it.published.write_text(trust.nothing("production")),
    "no statement": lambda it: it.published.unlink(),
}


@pytest.mark.parametrize("tamper", TAMPERS)
def test_a_tamper_by_hand(tamper: str, deployed: Deployment) -> None:
    """Each way to change what is deployed by hand is refused, and constructs nothing."""
    TAMPERS[tamper](deployed)
    assert deployed.refuses()


@pytest.mark.parametrize("change", [_link, _pipe, _remove])
def test_each_file_removed_or_replaced(
    change: Callable[[Deployment, str], Any], made: tuple[Path, Bundle], tmp_path: Path
) -> None:
    """A file that is gone, or a link to its own content, or a pipe: nobody waits for that."""
    for path in Deployment(made[0]).files:
        copy = Deployment(Path(shutil.copytree(made[0], tmp_path / path.name)))
        change(copy, path.name)
        assert copy.refuses(), path.name


def test_each_file_renamed(deployed: Deployment) -> None:
    """Every name counts, by its case too."""
    for path in deployed.files:
        _move(deployed, path.name, path.name.swapcase())
        assert deployed.refuses(), path.name
        _move(deployed, path.name.swapcase(), path.name)
    deployed.load()


def _forged(evil: Bundle) -> Bundle:
    """Return the attacker's bundle as consistent as can be: each digest fits."""
    files = {name: File(digest_bytes(data), len(data)) for name, data in sorted(evil.files.items())}
    told = dataclasses.replace(evil.manifest, files=files)
    assert manifest.parse(told.canonical, where="forged") == told
    return Bundle(evil.path, told, evil.files)


def test_a_consistent_forgery_is_refused(deployed: Deployment, made: tuple[Path, Bundle]) -> None:
    """A whole other bundle, in its place or below its own digest, is not what was signed."""
    forged = _forged(made[1])
    forged.save(deployed.bundle)
    assert deployed.refuses()
    forged.save(deployed.bundle.with_name(forged.digest.removeprefix("sha256:")))
    assert deployed.refuses()
    content = json.loads(deployed.published.read_bytes())
    payload = base64.b64decode(content["payload"])
    payload = payload.replace(deployed.bundle.name.encode(), forged.digest[7:].encode())
    signature = content["signatures"][0]
    deployed.published.write_bytes(
        enclosed(payload, signature["keyid"], base64.b64decode(signature["sig"]))
    )
    assert deployed.refuses()
    FIRED.clear()
    Store(deployed.root / ".mlnb/bundles").get(forged.digest, allow_marks=True).model()
    assert FIRED == ["evil"]


def test_what_changes_after_verification_is_not_looked_at(
    deployed: Deployment, made: tuple[Path, Bundle]
) -> None:
    """Between verifying and loading every file is exchanged; loaded is what was verified."""
    bundle = deployed.get()
    for path in deployed.files:
        path.write_bytes(made[1].files.get(path.name, b"exchanged"))
    FIRED.clear()
    bundle.model()
    assert FIRED == ["good"]
    assert deployed.refuses()


def test_what_changes_while_it_is_verified_is_noticed(
    deployed: Deployment, made: tuple[Path, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is exchanged when the manifest was read already, just before it is read itself."""
    (model,) = (path for path in deployed.files if path.name == "model.pickle")
    opened: list[str] = []
    real = os.open

    def slow(path: Any, *arguments: Any, **more: Any) -> int:
        opened.append(Path(path).name)
        if Path(path) == model:
            assert "manifest.json" in opened
            model.write_bytes(made[1].files["model.pickle"])
        return real(path, *arguments, **more)

    monkeypatch.setattr(os, "open", slow)
    assert deployed.refuses()
    assert opened.count("model.pickle") == 1


def test_the_parser_knows_every_field() -> None:
    """A field that is added to the statement is in what is signed."""
    told = json.loads(statement().payload)["predicate"]
    fields = {each.name for each in dataclasses.fields(trust.Statement)}
    assert set(told) == fields - {"bundle"} | {"format"}
    assert statements.parse(statement().payload, where="x") == statement()
