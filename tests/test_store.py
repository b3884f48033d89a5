"""The store: in a folder or a bucket, encrypted or not, a bundle is there whole or not at all."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import boto3
import bundles
import fsspec
import pyrage
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry as known
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from mlnb import cli, project, store
from mlnb.bundle import Bundle, BundleError, open_bundle, pack
from mlnb.errors import MlnbError
from mlnb.project import Project
from mlnb.store import Store, StoreError, open_store
from mlnb.store.encryption import identity_file

KINDS = ["folder", "memory", "s3"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small bundle."""
    root = tmp_path_factory.mktemp("packed")
    return pack(bundles.recipe(root), root / "bundle")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Another one."""
    root = tmp_path_factory.mktemp("other")
    return pack(bundles.recipe(root, golden=5), root / "bundle")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that speaks S3, and its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "tester")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        running = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        running.start()
        host, port = running.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        yield f"http://{host}:{port}"
        running.stop()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's own folder, empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new place for a store, of the kind that the test asks for."""
    name = uuid.uuid4().hex
    if request.param == "memory":
        return f"memory://{name}/bundles"
    if request.param == "s3":
        request.getfixturevalue("server")
        boto3.client("s3").create_bucket(Bucket=name)
        return f"s3://{name}/bundles"
    return str(tmp_path / "bundles")


@pytest.fixture(params=["plain", "encrypted"])
def recipients(request: pytest.FixtureRequest, home: Path) -> tuple[str, ...]:
    """Whom to encrypt to: nobody, or the person whose identity is at home."""
    return (store.new_identity(),) if request.param == "encrypted" else ()


def objects(address: str) -> dict[str, bytes]:
    """Return what lies in a store, read without it: the bytes by name below the address."""
    files, root = fsspec.url_to_fs(address, use_listings_cache=False)
    return {path.removeprefix(root).lstrip("/"): files.cat_file(path) for path in files.find(root)}


def write(address: str, name: str, data: bytes) -> None:
    """Write into a store behind its back."""
    files, root = fsspec.url_to_fs(address, use_listings_cache=False)
    files.pipe_file(f"{root}/{name}", data)


# --- Putting and getting ---------------------------------------------------------------------


@pytest.mark.parametrize("address", KINDS, indirect=True)
def test_what_is_put_is_got(
    address: str, recipients: tuple[str, ...], bundle: Bundle, other: Bundle
) -> None:
    """Every byte, by the digest alone; what was not put is not there."""
    kept = Store(address, recipients=recipients)
    assert kept.list() == () and not kept.has(bundle.digest)
    with pytest.raises(StoreError, match=f"no bundle {bundle.digest} here"):
        kept.get(bundle.digest)
    assert kept.put(bundle) == bundle.digest
    found = Store(address).get(bundle.digest)
    assert (found.digest, found.files) == (bundle.digest, bundle.files)
    assert kept.has(bundle.digest) and not kept.has(other.digest)
    kept.put(other)
    assert kept.list() == tuple(sorted([bundle.digest, other.digest]))


@pytest.mark.parametrize("address", KINDS, indirect=True)
def test_putting_again_changes_nothing(
    address: str, recipients: tuple[str, ...], bundle: Bundle
) -> None:
    """What is there and sound is not written again; encrypted anew, every byte would differ."""
    kept = Store(address, recipients=recipients)
    kept.put(bundle)
    before = objects(address)
    kept.put(bundle)
    assert objects(address) == before and len(before) == len(bundle.files) + 1


def test_a_folder_is_laid_out_as_bundles(tmp_path: Path, bundle: Bundle) -> None:
    """Each is a bundle in a folder named by its digest, as it was packed."""
    Store(tmp_path).put(bundle)
    (found,) = tmp_path.iterdir()
    assert found.name == bundle.digest.removeprefix("sha256:")
    assert open_bundle(found).files == bundle.files


@pytest.mark.parametrize("address", KINDS, indirect=True)
@pytest.mark.parametrize("spoil", ["change", "add", "remove", "hide"])
def test_what_is_damaged_is_refused_and_mended(
    spoil: str, address: str, recipients: tuple[str, ...], bundle: Bundle
) -> None:
    """A byte, or an object too many or too few, is never opened; putting again makes it whole."""
    kept = Store(address, recipients=recipients)
    kept.put(bundle)
    number = bundle.digest.removeprefix("sha256:")
    before = objects(address)
    name = next(name for name in before if "golden.json" in name)
    if spoil == "change":
        write(address, name, before[name][:-3] + b"xxx")
    elif spoil == "remove":
        files, root = fsspec.url_to_fs(address, use_listings_cache=False)
        files.rm_file(f"{root}/{name}")
    elif spoil == "add":
        write(address, f"{number}/more", b"x")
    elif "://" in address:
        write(address, f"{number}/.git/x", b"x")
    else:
        (Path(address) / number / ".git").mkdir()
        write(address, f"{number}/.git/x", b"x")
    with pytest.raises(MlnbError):
        kept.get(bundle.digest)
    assert kept.has(bundle.digest)
    kept.put(bundle)
    assert kept.get(bundle.digest).files == bundle.files
    assert set(objects(address)) == set(before)


@pytest.mark.parametrize("address", KINDS, indirect=True)
def test_one_bundle_below_the_name_of_another(address: str, bundle: Bundle, other: Bundle) -> None:
    """Sound as it is, it is not what was asked for."""
    kept = Store(address)
    kept.put(bundle)
    number = other.digest.removeprefix("sha256:")
    for name, data in objects(address).items():
        if "://" not in address:
            (Path(address) / number).mkdir(exist_ok=True)
        write(address, f"{number}/{name.partition('/')[2]}", data)
    assert kept.has(other.digest)
    with pytest.raises(BundleError, match="is another bundle"):
        kept.get(other.digest)


@pytest.mark.parametrize("digest", ["", "sha256:", "../x", "1" * 64, f"sha256:{'A' * 64}"])
def test_a_digest_is_no_path(digest: str, tmp_path: Path) -> None:
    """What is no digest is refused before anything is looked for."""
    for ask in (Store(tmp_path).get, Store(tmp_path).has):
        with pytest.raises(StoreError, match="is no digest"):
            ask(digest)


def test_a_marked_bundle_needs_permission(tmp_path: Path, bundle: Bundle) -> None:
    """It may be stored; who gets it must say that a pickle is welcome."""
    from dataclasses import replace

    import joblib

    recipe = bundles.recipe(tmp_path)
    joblib.dump(bundle.model(), tmp_path / "model.joblib")
    marked = pack(replace(recipe, model="model.joblib"), tmp_path / "pickle", allow_pickle=True)
    kept = Store(tmp_path / "bundles")
    kept.put(marked)
    with pytest.raises(BundleError, match="is marked pickle"):
        kept.get(marked.digest)
    assert kept.get(marked.digest, allow_marks=True).files == marked.files


# --- Never in part ---------------------------------------------------------------------------


def test_a_put_that_is_killed_is_never_seen(
    tmp_path: Path, recipients: tuple[str, ...], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that vanishes at any of its writes leaves nothing, and the next put works."""
    for point in itertools.count():
        kept = Store(tmp_path / str(point), recipients=recipients)
        if _vanishes(functools.partial(kept.put, bundle), monkeypatch, at=point):
            assert not kept.has(bundle.digest) and kept.list() == ()
            with pytest.raises(StoreError, match="no bundle"):
                kept.get(bundle.digest)
            kept.put(bundle)
        assert kept.get(bundle.digest).files == bundle.files
        if point > len(bundle.files):
            break
    assert point == len(bundle.files) + 1


def _vanishes(act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, *, at: int) -> bool:
    """Do ``act`` in a process that ends without a word at its ``at``-th write; tell if it did."""
    child = os.fork()
    if child == 0:
        count = itertools.count()
        real = os.fsync

        def vanish(handle: int) -> None:
            if next(count) == at:
                os.kill(os.getpid(), 9)
            real(handle)

        monkeypatch.setattr(os, "fsync", vanish)
        try:
            act()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9


@pytest.mark.parametrize("address", ["memory"], indirect=True)
def test_a_put_into_a_bucket_that_breaks_off_is_never_seen(
    address: str, recipients: tuple[str, ...], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no rename, the manifest comes last; without it there is no bundle."""
    for point in range(len(bundle.files) + 1):
        kept = Store(f"{address}/{point}", recipients=recipients)
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileSystem, "pipe_file", _breaking(at=point))
            with pytest.raises(StoreError, match="cannot be used: the line is cut"):
                kept.put(bundle)
        assert len(objects(kept.name)) == point
        assert not kept.has(bundle.digest) and kept.list() == ()
        with pytest.raises(StoreError, match="no bundle"):
            kept.get(bundle.digest)
        kept.put(bundle)
        assert kept.get(bundle.digest).files == bundle.files


def _breaking(*, at: int) -> Callable[..., None]:
    """Return what writes a file, but fails the ``at``-th time and ever after."""
    real, count = MemoryFileSystem.pipe_file, itertools.count()

    def pipe_file(*arguments: Any, **more: Any) -> None:
        if next(count) >= at:
            raise RuntimeError("the line is cut")
        real(*arguments, **more)

    return pipe_file


def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged bundle that cannot be mended for want of space is still there, to be looked at."""
    kept = Store(tmp_path / "bundles")
    kept.put(bundle)
    (folder,) = (tmp_path / "bundles").iterdir()
    (folder / "more").write_text("x")

    def full(*_: Any) -> NoReturn:
        raise OSError(28, "No space left on device")

    rename = Path.rename

    def refused(path: Path, to: Path) -> Path:
        return full() if (path.name, to) == ("new", folder) else rename(path, to)

    for place, fails in [((os, "fsync"), full), ((Path, "rename"), refused)]:
        with monkeypatch.context() as patch:
            patch.setattr(*place, fails)
            with pytest.raises(StoreError, match="No space left on device"):
                kept.put(bundle)
        assert (folder / "more").exists() and len(list(folder.iterdir())) == len(bundle.files) + 2
        assert list((tmp_path / "bundles").iterdir()) == [folder]
    kept.put(bundle)
    assert kept.get(bundle.digest).files == bundle.files
    assert list((tmp_path / "bundles").iterdir()) == [folder]


def test_many_put_the_same_at_once(
    tmp_path: Path, recipients: tuple[str, ...], bundle: Bundle
) -> None:
    """Processes that put one bundle at the same time all succeed; it is there, whole, once."""
    kept = Store(tmp_path / "bundles", recipients=recipients)
    start, go = os.pipe()
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(go)
                os.read(start, 1)
                kept.put(bundle)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    os.close(start)
    os.close(go)  # all of them read the end of the pipe now
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == [bundle.digest[7:]]
    assert kept.get(bundle.digest).files == bundle.files


# --- Elsewhere -------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["s3"], indirect=True)
def test_what_was_fetched_is_kept(address: str, tmp_path: Path, bundle: Bundle) -> None:
    """Fetched once, it is read here, and verified again: damaged, it is fetched anew."""
    kept = Store(address, cache=tmp_path / "fetched")
    kept.put(bundle)
    kept.get(bundle.digest)
    (copy,) = (tmp_path / "fetched").iterdir()
    assert open_bundle(copy, bundle.digest).files == bundle.files
    (copy / "golden.json").write_text("{}")
    assert kept.get(bundle.digest).files == bundle.files
    assert open_bundle(copy, bundle.digest).files == bundle.files
    files, root = fsspec.url_to_fs(address, use_listings_cache=False)
    files.rm(root, recursive=True)
    assert kept.get(bundle.digest).files == bundle.files
    (copy / "golden.json").write_text("{}")
    with pytest.raises(StoreError, match="no bundle"):
        kept.get(bundle.digest)


@pytest.mark.parametrize("address", ["s3"], indirect=True)
def test_what_another_machine_put_is_seen(address: str, bundle: Bundle, other: Bundle) -> None:
    """No listing of before hides it, not even one of half of its files."""
    one, two, three = [_client(address) for _ in range(3)]
    one.put(other)
    assert two.list() == (other.digest,) and not three.has(bundle.digest)
    write(address, f"{bundle.digest[7:]}/golden.json", bundle.files["golden.json"])
    assert not three.has(bundle.digest)
    one.put(bundle)
    assert two.list() == tuple(sorted([bundle.digest, other.digest]))
    assert three.has(bundle.digest)
    assert three.get(bundle.digest).files == bundle.files


def _client(address: str) -> Store:
    """Return the store as another machine sees it: with a client of its own."""
    S3FileSystem.clear_instance_cache()
    return Store(address)


def test_a_bucket_that_cannot_be_reached_is_told(
    server: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bucket, no server: one of our errors, which names the store."""
    with pytest.raises(StoreError, match=r"s3://nowhere/x: cannot be used"):
        Store("s3://nowhere/x").put(bundle)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    S3FileSystem.clear_instance_cache()  # it knows the address of before
    for act in (Store("s3://b/x").list, lambda: Store("s3://b/x").get(bundle.digest)):
        with pytest.raises(StoreError, match=r"s3://b/x: cannot be used"):
            act()
    S3FileSystem.clear_instance_cache()


def test_a_missing_library_or_an_unknown_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that helps."""
    with pytest.raises(StoreError, match=r"nonsense://x: is no URL of a store"):
        Store("nonsense://x")
    monkeypatch.delitem(known, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(StoreError, match=r"not installed(.|\n)*pip install 'mlnb\[s3\]'"):
        Store("s3://b/x")


# --- Encryption ------------------------------------------------------------------------------


@pytest.mark.parametrize("address", KINDS, indirect=True)
def test_at_rest_nothing_can_be_read(address: str, home: Path, bundle: Bundle) -> None:
    """No line of any file is there in the clear, and none without the identity."""
    kept = Store(address, recipients=[store.new_identity()])
    kept.put(bundle)
    stored = b"\0".join(objects(address).values())
    lines = {line for data in bundle.files.values() for line in data.split(b"\n")}
    assert not [line for line in lines if len(line) > 12 and line in stored]
    assert [line for line in lines if len(line) > 12 and line in bundle.files["schema.json"]]
    identity = identity_file().read_bytes()
    identity_file().unlink()
    with pytest.raises(StoreError, match=r"there is no identity to decrypt it with\n.*age\.txt"):
        kept.get(bundle.digest)
    store.new_identity()
    with pytest.raises(StoreError, match="cannot be decrypted"):
        kept.get(bundle.digest)
    identity_file().write_bytes(identity)
    assert kept.get(bundle.digest).files == bundle.files


def test_what_is_encrypted_is_kept_nowhere(
    tmp_path: Path, home: Path, bundle: Bundle, address_of_memory: str
) -> None:
    """Neither the folder of what was fetched nor any other has it in the clear."""
    kept = Store(address_of_memory, cache=tmp_path / "fetched", recipients=[store.new_identity()])
    kept.put(bundle)
    kept.get(bundle.digest)
    assert not (tmp_path / "fetched").exists()


@pytest.fixture
def address_of_memory() -> str:
    """A new place in memory."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.mark.parametrize("address", KINDS, indirect=True)
def test_encryption_that_is_turned_on_later(address: str, home: Path, bundle: Bundle) -> None:
    """What is put again is encrypted, and nothing is left in the clear; the same way back."""
    recipient = store.new_identity()
    for recipients in ((), (recipient,), ()):
        Store(address, recipients=recipients).put(bundle)
        assert Store(address).get(bundle.digest).files == bundle.files
        assert all(name.endswith(".age") == bool(recipients) for name in objects(address))


def test_a_command_shows_ones_recipient(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It makes the identity once, for its owner alone and outside the project; then it shows it."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    (tmp_path / "project" / "pyproject.toml").write_text("[tool.mlnb]\n")
    assert cli.main(["keys", "encryption"]) == 0
    recipient = capsys.readouterr().out.strip()
    pyrage.x25519.Recipient.from_str(recipient)
    assert identity_file().stat().st_mode & 0o777 == 0o600
    made = identity_file().read_bytes()
    assert cli.main(["keys", "encryption"]) == 0
    assert capsys.readouterr().out.strip() == recipient
    assert identity_file().read_bytes() == made
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "project" / "config"))
    assert cli.main(["keys", "encryption"]) == 2
    assert "lies within the project" in capsys.readouterr().err
    assert not (tmp_path / "project" / "config").exists()


def test_each_recipient_can_read(home: Path, tmp_path: Path, bundle: Bundle) -> None:
    """Encrypted to several, the identity of one is enough; to another's alone, it is not."""
    mine, other = store.new_identity(), str(pyrage.x25519.Identity.generate().to_public())
    Store(tmp_path / "both", recipients=[other, mine]).put(bundle)
    assert Store(tmp_path / "both").get(bundle.digest).files == bundle.files
    Store(tmp_path / "theirs", recipients=[other]).put(bundle)
    with pytest.raises(StoreError, match="cannot be decrypted"):
        Store(tmp_path / "theirs").get(bundle.digest)


def test_encrypted_by_a_stranger_it_is_still_verified(
    home: Path, tmp_path: Path, bundle: Bundle
) -> None:
    """Anyone can encrypt to a recipient; only what has its digest is opened."""
    recipient = store.new_identity()
    kept = Store(tmp_path / "bundles", recipients=[recipient])
    kept.put(bundle)
    (folder,) = (tmp_path / "bundles").iterdir()
    known = pyrage.x25519.Recipient.from_str(recipient)
    (folder / "golden.json.age").write_bytes(pyrage.encrypt(b"{}", [known]))
    with pytest.raises(BundleError, match=r"golden\.json was changed"):
        kept.get(bundle.digest)
    (folder / "golden.json").write_bytes(bundle.files["golden.json"])
    with pytest.raises(StoreError, match=r"golden\.json is there twice"):
        kept.get(bundle.digest)


def test_what_is_wrong_with_a_recipient_or_identity_is_told(
    home: Path, tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slip in the settings, a file that others may read or that holds nothing, no library."""
    with pytest.raises(StoreError, match=r"encrypt-to in \[tool\.mlnb\]: 'age1x' is no recipient"):
        Store(tmp_path / "bundles", recipients=["age1x"]).put(bundle)
    assert not (tmp_path / "bundles").exists()
    kept = Store(tmp_path / "bundles", recipients=[store.new_identity()])
    with pytest.raises(MlnbError, match="is there already"):
        store.new_identity()
    kept.put(bundle)
    identity_file().chmod(0o644)
    with pytest.raises(MlnbError, match="others may read it"):
        kept.get(bundle.digest)
    identity_file().chmod(0o600)
    identity_file().write_text("# nothing")
    with pytest.raises(StoreError, match="holds no identity"):
        kept.get(bundle.digest)
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(StoreError, match=r"pyrage(.|\n)*pip install 'mlnb\[encryption\]'"):
        kept.get(bundle.digest)


# --- Settings --------------------------------------------------------------------------------


def configured(root: Path, text: str = "") -> Project:
    """Return the project at ``root`` with ``text`` in its [tool.mlnb]."""
    root.mkdir(exist_ok=True)
    (root / "pyproject.toml").write_text(f"[tool.mlnb]\n{text}\n")
    return project.find(root)


def test_the_settings_say_where_and_how(tmp_path: Path, home: Path, bundle: Bundle) -> None:
    """The project's own folder; another one, from the root on; an address; recipients."""
    root = tmp_path / "project"
    assert open_store(configured(root)).name == str(root / ".mlnb/bundles")
    assert open_store(configured(root, 'store = "../team"')).name == str(root / "../team")
    assert open_store(configured(root, f'store = "{tmp_path}"')).name == str(tmp_path)
    assert open_store(configured(root, f'store = "file://{tmp_path}/x"')).name == f"{tmp_path}/x"
    recipient = store.new_identity()
    text = f'store = "memory://{uuid.uuid4().hex}"\nencrypt-to = ["{recipient}"]'
    kept = open_store(configured(root, text))
    kept.put(bundle)
    assert all(name.endswith(".age") for name in objects(kept.name))
    text = f'store = "memory://{uuid.uuid4().hex}"'
    kept = open_store(configured(root, text))
    kept.put(bundle)
    kept.get(bundle.digest)
    assert [path.name for path in (root / ".mlnb/fetched").iterdir()] == [bundle.digest[7:]]
    shutil.rmtree(root)
