"""What stands behind the routes: real bundles, a real store, real signed statements."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import served
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client.parser import text_string_to_metric_families
from served import ROW, Served, until

from mlnb import trust
from mlnb.errors import MlnbError
from mlnb.files import write_bytes
from mlnb.project import find
from mlnb.serving import predictions, versions
from mlnb.serving.counts import Counts
from mlnb.serving.engine import Engine
from mlnb.serving.errors import RequestError, ServingError
from mlnb.serving.predictions import LogSettings, PredictionLog

AGES = timedelta(days=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A project with three versions in its store; no test changes it."""
    return served.begun(tmp_path_factory.mktemp("served") / "project", 3)


@pytest.fixture
def project(made: Served, tmp_path: Path) -> Served:
    """A copy of it, with version 1 published."""
    root = shutil.copytree(made.project.root, tmp_path / "project")
    copied = Served(find(root), made.key, made.digests)
    copied.publish(1)
    return copied


@pytest.fixture
def start(project: Served) -> Iterator[Any]:
    """Return what starts an engine on the project; all are stopped in the end."""
    running: list[tuple[Engine, Counts]] = []

    def begin(log: LogSettings | None = None) -> Engine:
        counts = Counts(project.project.state / "serving" / "production" / "counts")
        folder = predictions.folder_of(project.project, "production")
        engine = Engine(
            project.project,
            "production",
            counts=counts,
            log=PredictionLog(folder, log) if log else None,
        )
        running.append((engine, counts))
        engine.start()
        return engine

    yield begin
    for engine, counts in running:
        engine.stop()
        counts.close()


def ask(engine: Engine, key: str = "a", request_id: str = "r") -> Any:
    return engine.answer(None, [ROW], key=key, request_id=request_id)


def figures(engine: Engine, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a name, by the values of their labels in order."""
    found = {}
    for family in text_string_to_metric_families(engine.metrics().decode()):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def answers(engine: Engine, version: int) -> bool:
    return bool(ask(engine).version == version)


def counted(engine: Engine, name: str, least: float) -> bool:
    """Whether a counter without labels is at ``least`` so much."""
    return figures(engine, name)[()] >= least


def problem(engine: Engine) -> str:
    return str(engine.status()["problem"])


def logged(project: Served, **more: Any) -> Any:
    now = datetime.now(UTC)
    return predictions.read(
        project.project, "production", since=now - AGES, until=now + AGES, **more
    )


# --- Following what is published ---------------------------------------------------------------


def test_each_answer_is_of_the_version_that_it_names_while_versions_are_swapped(
    project: Served, start: Any
) -> None:
    """Under six swaps no question fails, and each value belongs to the version beside it."""
    engine = start(LogSettings())
    wrong: list[Any] = []
    asked: list[int] = []
    done = threading.Event()

    def go_on_asking() -> None:
        while not done.is_set():
            try:
                found = ask(engine, request_id=f"r{len(asked)}")
                asked.append(found.version)
                if round(float(found.scores[0])) != found.version:
                    wrong.append(found)
            except Exception as error:  # noqa: BLE001 - none may come
                wrong.append(error)

    thread = threading.Thread(target=go_on_asking)
    thread.start()
    try:
        for version in (2, 3, 1, 2, 3, 1):
            project.publish(version)
            until(functools.partial(answers, engine, version))
    finally:
        done.set()
        thread.join()
    assert not wrong
    assert set(asked) == {1, 2, 3}
    assert until(lambda: figures(engine, "mlnb_swaps_total")[()] == 6)
    engine.stop()
    kept = logged(project)
    mine = kept[kept["request_id"] != "r"]
    assert len(mine) == len(asked) == mine["request_id"].nunique()
    assert (kept["score"].round() == kept["version"]).all()


def forge(project: Served, how: str, newest: int = 0) -> None:
    """Publish what must not be served: version 2, or an older statement on version 3."""
    said = project.statement(2)
    envelope = trust.sign(said, project.key)
    if how == "unsigned":
        envelope = said.payload
    elif how == "edited":
        envelope = envelope.replace(b"A", b"B", 1)
    elif how == "stranger":
        envelope = trust.sign(said, Ed25519PrivateKey.generate())
    elif how == "other environment":
        said = dataclasses.replace(said, environment="staging")
        envelope = trust.sign(said, project.key)
    elif how == "replayed":
        said = dataclasses.replace(said, counter=newest - 1)
        envelope = trust.sign(said, project.key)
    elif how == "same number":
        said = dataclasses.replace(said, counter=newest)
        envelope = trust.sign(said, project.key)
    elif how == "tampered bundle":
        path = _bundle(project, 2) / "golden.json"
        path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    elif how == "no bundle":
        shutil.rmtree(_bundle(project, 2))
    elif how == "nothing":
        envelope = trust.nothing("production").encode()
    write_bytes(project.path, envelope)
    if how == "missing":
        project.path.unlink()


def _bundle(project: Served, version: int) -> Path:
    return project.project.state / "bundles" / project.digests[version].removeprefix("sha256:")


FORGERIES = (
    "unsigned", "edited", "stranger", "other environment", "replayed", "same number",
    "tampered bundle", "no bundle", "nothing", "missing",
)  # fmt: skip


def test_nothing_untrusted_is_loaded_and_the_good_version_goes_on(
    project: Served, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong, the good one answers; the status and a figure say so, until it is right.

    A server that starts meanwhile serves what was served last, and says so.
    """
    loaded: list[str] = []
    load = versions.load

    def watched(bundle: Any, number: int) -> Any:
        loaded.append(bundle.digest)
        return load(bundle, number)

    monkeypatch.setattr(versions, "load", watched)
    project.publish(1)
    engine = start()
    newest = project.publish(3).counter
    until(lambda: ask(engine).version == 3)
    good = project.path.read_bytes()
    sound = {path.name: path.read_bytes() for path in _bundle(project, 2).iterdir()}
    for how in FORGERIES:
        before = figures(engine, "mlnb_load_failures_total").get((), 0)
        forge(project, how, newest)
        assert until(lambda: problem(engine)), how
        assert ask(engine).version == 3, how
        assert figures(engine, "mlnb_published_problem")[()] == 1
        assert until(functools.partial(counted, engine, "mlnb_load_failures_total", before + 1))
        if how in ("replayed", "tampered bundle", "missing"):
            late = start()
            assert ask(late).version == 3
            assert problem(late)
            assert late.status()["fallen_back"]
            late.stop()
        write_bytes(project.path, good)
        assert until(lambda: not problem(engine)), how
        _bundle(project, 2).mkdir(exist_ok=True)
        for name, data in sound.items():
            (_bundle(project, 2) / name).write_bytes(data)
    assert project.digests[2] not in loaded
    trust.revoke("ada", project.project.root / "deployments/keys", by="eve", reason="lost")
    assert until(lambda: "revoked" in problem(engine))
    assert ask(engine).version == 3
    with pytest.raises(ServingError, match="revoked"):
        start()


def test_a_server_that_never_served_refuses_to_start_on_what_is_wrong(
    project: Served, start: Any
) -> None:
    """Without a statement that was served before there is nothing to fall back to."""
    write_bytes(project.path, trust.nothing("production").encode())
    with pytest.raises(ServingError, match="nothing to serve: says that nothing runs yet"):
        start()
    forge(project, "edited")
    with pytest.raises(ServingError, match="nothing to serve"):
        start()
    project.publish(2)
    assert ask(start()).version == 2


def test_a_version_that_answers_otherwise_than_when_it_was_packed_is_not_served(
    project: Served, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Golden requests are asked of the scorer as it was loaded."""
    from mlnb.scorer.loading import Compiled

    engine = start()
    score = Compiled.score
    monkeypatch.setattr(Compiled, "score", lambda self, rows: score(self, rows) + 1e-3)
    project.publish(2)
    assert "does not answer as when it was packed" in until(lambda: problem(engine))
    monkeypatch.setattr(Compiled, "score", score)
    assert until(lambda: ask(engine).version == 2)  # tried again, though nothing was published
    assert until(lambda: not problem(engine))


# --- Requests ----------------------------------------------------------------------------------


def test_rows_that_are_wrong_are_refused_and_a_scorer_that_fails_is_no_mistake_of_the_caller(
    project: Served, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong row is a RequestError; an unexpected error of the model is a ServingError, 500."""
    from mlnb.scorer.loading import Compiled

    engine = start()
    with pytest.raises(RequestError):
        engine.answer(None, [["x"]], key="a", request_id="r")

    def fail(self: Any, rows: Any) -> Any:
        raise ZeroDivisionError("secret row")

    monkeypatch.setattr(Compiled, "score", fail)
    with pytest.raises(ServingError) as caught:
        ask(engine)
    assert caught.value.status == 500
    assert "secret" not in str(caught.value)
    assert figures(engine, "mlnb_failures_total") == {("stable", "1"): 1}


def test_answers_are_traced_where_the_environment_wants_that(
    project: Served, start: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A span says which version answered, and holds neither rows nor scores."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    engine = start()
    ask(engine, request_id="traced")
    engine.stop()
    said = capsys.readouterr().err
    assert '"mlnb.request_id": "traced"' in said
    assert '"mlnb.version": 1' in said
    assert "north" not in said
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(ServingError, match="no exporter"):
        start()


# --- The prediction log ------------------------------------------------------------------------


def test_what_was_answered_is_logged_with_masked_columns_and_joined_with_labels(
    project: Served, start: Any
) -> None:
    """Every row answered is there once; of a masked value nothing is told but what equals it."""
    engine = start(LogSettings(masked=("income", "site"), without=("age",), rows=7))
    rows = [
        [30.0 + i, i, None if i == 2 else 12.0, "north" if i % 2 else "südlich", True]
        for i in range(5)
    ]
    for number in range(20):
        engine.answer(None, rows, key="a", request_id=f"r{number}")
    engine.feedback("r3", [1.5, 2.5])
    engine.feedback("r4", True)
    engine.feedback("r4", "late")
    wrong: tuple[Any, ...] = (None, [], {"a": 1}, float("nan"), "x" * 2000)
    for label in wrong:
        with pytest.raises(RequestError):
            engine.feedback("r5", label)
    until(lambda: engine.status()["log"]["written"] >= 7)
    early = logged(project)
    engine.stop()
    found = logged(project)
    assert 7 <= len(early) <= len(found) == 100
    assert found["request_id"].nunique() == 20
    assert "input.age" not in found
    assert found["input.visits"].tolist() == [0, 1, 2, 3, 4] * 20
    assert found["input.income"].isna().sum() == 20
    assert found["input.site"].nunique() == 2
    text = found.to_csv()
    assert "north" not in text
    assert "12.0" not in text
    assert (found["score"].round() == 1).all()
    assert found["digest"].unique().tolist() == [project.digests[1]]
    labels = {
        (one, row): label
        for one, row, label in found[["request_id", "row", "label"]].itertuples(index=False)
        if label is not None
    }
    assert labels == {("r3", 0): 1.5, ("r3", 1): 2.5, ("r4", 0): "late"}
    key = project.project.state / "predictions" / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    few = logged(project, columns=["score"])
    assert set(few.columns) == {"time", "request_id", "row", "score", "label"}
    # A window is read by the names of the files: those outside are not opened.
    middle = found["time"].sort_values().iloc[50].to_pydatetime()
    early = predictions.read(project.project, "production", since=middle - AGES, until=middle)
    late = predictions.read(project.project, "production", since=middle, until=middle + AGES)
    assert len(early) + len(late) == 100
    assert early["time"].max() < middle <= late["time"].min()


def test_no_request_waits_for_a_disk_that_cannot_be_written(project: Served, start: Any) -> None:
    """What finds no room is counted; what waited is written when the disk can be written again."""
    folder = project.project.state / "predictions"
    folder.write_text("in the way")
    engine = start(LogSettings(rows=1, queue=10))
    assert until(lambda: ask(engine) and engine.status()["log"]["problem"])
    for _ in range(20):
        assert ask(engine).version == 1
    status = engine.status()["log"]
    assert status["dropped"] > 0
    assert status["waiting"] <= 10
    folder.unlink()
    until(lambda: engine.status()["log"]["waiting"] == 0)
    assert not engine.status()["log"]["problem"]
    engine.stop()
    assert len(logged(project)) == 10
    assert figures(engine, "mlnb_log_rows_total")[()] == 10
    assert figures(engine, "mlnb_log_dropped_rows_total")[()] == status["dropped"]
    assert figures(engine, "mlnb_log_failures_total")[()] > 0


def test_the_oldest_predictions_go_when_there_are_too_many(project: Served, start: Any) -> None:
    """All files together stay within the limit, and the newest rows are there."""
    engine = start(LogSettings(rows=1, max_mb=0.02))
    for number in range(10):
        ask(engine, request_id=f"r{number}")
        until(lambda: engine.status()["log"]["waiting"] == 0)
    folder = predictions.folder_of(project.project, "production")
    assert sum(path.stat().st_size for path in folder.rglob("*.parquet")) <= 20_000
    found = logged(project)
    assert 0 < len(found) < 10
    assert found["request_id"].iloc[-1] == "r9"


def test_settings_of_the_log_are_read_and_wrong_ones_are_told(tmp_path: Path) -> None:
    """They are a table of their own in pyproject.toml."""
    settings = tmp_path / "pyproject.toml"
    settings.write_text('[tool.mlnb.serve.log]\nmasked = ["a"]\nmax-mb = 5\non = false\n')
    assert predictions.log_settings(find(tmp_path)) == LogSettings(
        on=False, masked=("a",), max_mb=5
    )
    for wrong in ("maske = []", "rows = 0", "on = 1", 'masked = "a"', "rows = 1.5"):
        settings.write_text(f"[tool.mlnb.serve.log]\n{wrong}\n")
        with pytest.raises(MlnbError):
            predictions.log_settings(find(tmp_path))


def test_serving_a_compiled_scorer_imports_neither_pandas_nor_what_trains_models(
    project: Served,
) -> None:
    """The engine, its log and its metrics need numpy, pyarrow, ONNX Runtime and little else."""
    code = f"""
import sys
from pathlib import Path
from mlnb.project import find
from mlnb.serving.counts import Counts
from mlnb.serving.engine import Engine
from mlnb.serving.predictions import LogSettings, PredictionLog
root = Path({str(project.project.root)!r})
log = PredictionLog(root / "log", LogSettings(masked=("site",)))
engine = Engine(find(root), "production", counts=Counts(root / "counts"), log=log)
engine.start()
assert engine.answer(None, [{ROW!r}], key="a", request_id="r").version == 1
engine.feedback("r", 2)
engine.metrics()
engine.stop()
assert list((root / "log").glob("*/*/*.parquet")), "nothing was logged"
heavy = ("pandas", "sklearn", "scipy", "skops", "mlflow", "xgboost")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- Counts ------------------------------------------------------------------------------------

_COUNTING = """
import sys
from pathlib import Path
from mlnb.serving.counts import FIRST, Counts
counts = Counts(Path(sys.argv[1]))
counts.begin(7, "sha256:7", 0.5)
place = counts.series("mlnb_requests", route="/x")
for _ in range(1000):
    with counts.lock:
        counts.cells[FIRST] += 1.0
        counts.metrics[place] += 1.0
print("counted", flush=True)
sys.stdin.read()
"""


def test_workers_count_for_themselves_and_their_counts_outlive_them(tmp_path: Path) -> None:
    """Processes add up; one that is killed leaves its counts, and the next goes on with them."""

    def worker() -> subprocess.Popen[str]:
        made = subprocess.Popen(
            [sys.executable, "-c", _COUNTING, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert made.stdout
        assert made.stdout.readline() == "counted\n"
        return made

    counts = Counts(tmp_path)
    counts.begin(7, "sha256:7", 0.5)

    def seen() -> tuple[int, float]:
        counts.look()
        sums = {name: cells[0] for name, _, cells in counts.sums()}
        return counts.tallies(7)["stable"].requests, sums.get("mlnb_requests", 0)

    assert seen() == (0, 0)
    first, second = worker(), worker()
    assert seen() == (2000, 2000)
    first.kill()
    first.communicate()
    assert seen() == (2000, 2000)
    third = worker()
    assert seen() == (3000, 3000)
    assert len(list(tmp_path.glob("worker-*"))) == 3
    assert counts.tallies(8)["stable"].requests == 0
    for each in (second, third):
        each.communicate("")
    counts.close()


def test_what_holds_for_all_workers_is_set_once_and_a_candidate_that_is_out_stays_out(
    tmp_path: Path,
) -> None:
    """The share is that of the newest statement; who is out is out after a restart, too."""
    one, two = Counts(tmp_path), Counts(tmp_path)
    one.begin(3, "sha256:a", 0.1)
    two.begin(3, "sha256:a", 0.7)
    assert two.shared().share == 0.1
    two.set_share(3, "sha256:a", 0.5, 2)
    assert (one.shared().share, one.shared().step) == (0.5, 2)
    with pytest.raises(RequestError, match="not the candidate"):
        one.set_share(3, "sha256:b", 0.5, 2)
    assert one.take_out(3, "too many errors")
    assert not two.take_out(3, "again")
    one.close()
    again = Counts(tmp_path)
    again.begin(3, "sha256:a", 0.1)
    shared = again.shared()
    assert (shared.out, shared.share, shared.why) == (True, 0, "too many errors")
    with pytest.raises(RequestError, match="taken out"):
        two.set_share(3, "sha256:a", 0.5, 2)
    again.begin(4, "sha256:b", 0.2)
    assert (two.shared().out, two.shared().share) == (False, 0.2)
    two.close()
    again.close()


def test_counts_of_another_format_and_a_folder_that_cannot_be_are_told(tmp_path: Path) -> None:
    """Nothing is guessed from a file that this mlnb does not know."""
    Counts(tmp_path / "counts").close()
    path = tmp_path / "counts" / "shared"
    path.write_bytes(b"mlnb\2" + path.read_bytes()[5:])
    with pytest.raises(ServingError, match="another format"):
        Counts(tmp_path / "counts")
    (tmp_path / "file").write_text("")
    with pytest.raises(ServingError, match="cannot keep its counts"):
        Counts(tmp_path / "file")


def test_more_series_than_there_is_room_for_are_counted_as_others(tmp_path: Path) -> None:
    """No label that grows without end stops a server."""
    counts = Counts(tmp_path)
    for number in range(1000):
        counts.metrics[counts.series("mlnb_requests", route=str(number))] += 1.0
    counts.metrics[counts.series("mlnb_requests", route="x" * 500)] += 1.0
    sums = list(counts.sums())
    assert sum(cells[0] for _, _, cells in sums) == 1001
    assert len(sums) < 320
    counts.close()


# --- Rolling out -------------------------------------------------------------------------------

CANARY: dict[str, Any] = {"kind": "canary", "steps": [0.1, 0.5, 1.0]}


@dataclasses.dataclass
class Campaign:
    """What users saw of a candidate."""

    requests: int = 0
    candidate: int = 0
    fallbacks: int = 0
    wrong: int = 0


def campaign(engine: Engine, most: int) -> Campaign:
    """Ask for many users until the candidate is out, or ``most`` times."""
    seen = Campaign()
    for number in range(most):
        if engine.status()["rollout"]["tripped"]:
            break
        found = engine.answer(None, [ROW], key=f"user-{number}", request_id=str(number))
        seen.requests += 1
        seen.candidate += found.variant == "candidate"
        seen.fallbacks += found.fallback
        seen.wrong += found.scores.shape != (1,) or round(float(found.scores[0])) != found.version
    return seen


def rolled_out(project: Served, engine: Engine, strategy: dict[str, Any], version: int = 2) -> None:
    """Publish a version to be rolled out beside version 1, and wait until the engine knows."""
    said = project.roll_out(version, 1, strategy)
    until(lambda: engine.status()["statement"] == said.counter)


@pytest.mark.parametrize(
    ("how", "most"), [("fails", 60), ("nan", 60), ("shape", 60), ("errors", 600), ("slow", 600)]
)
def test_a_bad_candidate_is_taken_out_and_no_user_sees_an_error(
    project: Served, start: Any, monkeypatch: pytest.MonkeyPatch, how: str, most: int
) -> None:
    """After 3 failures, or so many requests; who was asked before got a right answer."""
    monkeypatch.setattr(versions, "load", served.spoil(2, how))
    engine = start()
    for number in range(200):  # what stable usually takes is known
        ask(engine, request_id=str(number))
    rolled_out(project, engine, CANARY)
    seen = campaign(engine, 3000)
    told = engine.status()["rollout"]
    assert told["tripped"], told
    assert seen.fallbacks <= 3 or seen.requests <= most, seen
    assert seen.wrong == 0
    asked = seen.candidate + seen.fallbacks
    assert asked <= 0.1 * seen.requests + 3 * (0.09 * seen.requests) ** 0.5
    assert all(ask(engine, key=f"user-{n}").variant == "stable" for n in range(300))
    with pytest.raises(RequestError, match="taken out"):
        engine.set_share(0.5, 1, project.digests[2])
    assert figures(engine, "mlnb_trips_total")[()] == 1
    assert figures(engine, "mlnb_candidate_out")[()] == 1
    # A server that starts anew keeps it out; a new statement gives it another try.
    engine.stop()
    again = start()
    found = [ask(again, key=f"user-{n}") for n in range(300)]
    assert {(each.variant, each.fallback) for each in found} == {("stable", False)}
    rolled_out(project, again, CANARY, 3)
    assert {ask(again, key=f"user-{n}").version for n in range(300)} == {1, 3}


def test_a_share_is_sticky_grows_by_the_same_users_and_is_the_same_in_each_worker(
    project: Served, start: Any
) -> None:
    """Whom the candidate answers it goes on answering, in two engines on one file of counts."""
    one, two = start(), start()
    rolled_out(project, one, CANARY)
    until(lambda: two.status()["statement"] == one.status()["statement"])
    keys = [f"user-{n}" for n in range(2000)] + [uuid.uuid4().hex for _ in range(2000)]

    def taken(engine: Engine) -> set[str]:
        return {key for key in keys if ask(engine, key=key).variant == "candidate"}

    few = taken(one)
    assert abs(len(few) - 400) <= 3 * (4000 * 0.09) ** 0.5
    assert taken(two) == few
    one.set_share(0.5, 1, project.digests[2])
    more = taken(two)
    assert few < more
    assert abs(len(more) - 2000) <= 3 * (4000 * 0.25) ** 0.5
    assert two.status()["rollout"]["step"] == 1
    counts = [engine.status()["rollout"]["counts"] for engine in (one, two)]
    assert counts[0] == counts[1]
    assert counts[0]["candidate"]["requests"] == 2 * len(few) + len(more)
    for wrong in ("sha256:" + "1" * 64, project.digests[1]):
        with pytest.raises(RequestError, match="not rolled out"):
            one.set_share(0.5, 1, wrong)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(RequestError, match="from 0 to 1"):
            one.set_share(share, 1, project.digests[2])
    project.publish(2)  # for all: a new statement without a strategy
    until(lambda: one.status()["rollout"] is None and two.status()["rollout"] is None)
    assert {ask(engine, key=key).version for key in keys[:100] for engine in (one, two)} == {2}


def test_blue_green_moves_all_at_once_and_a_failure_falls_back(
    project: Served, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The candidate is loaded and asked nothing; then it answers all, and stable stays ready."""
    monkeypatch.setattr(versions, "load", served.spoil(3, "fails"))
    engine = start()
    rolled_out(project, engine, {"kind": "blue-green"})
    assert {ask(engine, key=str(n)).version for n in range(100)} == {1}
    engine.set_share(1.0, 1, project.digests[2])
    assert {ask(engine, key=str(n)).version for n in range(100)} == {2}
    engine.set_share(0.0, 0, project.digests[2])
    assert {ask(engine, key=str(n)).version for n in range(100)} == {1}
    rolled_out(project, engine, {"kind": "blue-green"}, 3)
    engine.set_share(1.0, 1, project.digests[3])
    found = [ask(engine, key=str(n)) for n in range(50)]
    assert {each.version for each in found} == {1}
    assert 1 <= sum(each.fallback for each in found) <= 3
    assert engine.status()["rollout"]["tripped"]


def test_a_shadow_is_compared_and_never_answers(
    project: Served, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample of requests is given to the candidate, too; rows that it sees otherwise count."""
    engine = start()
    rolled_out(project, engine, {"kind": "shadow"})
    asked = 0
    while engine.status()["rollout"]["counts"]["candidate"]["compared"] < 20:
        assert ask(engine, key=str(asked)).version == 1
        asked += 1
        assert asked < 100_000
    counts = engine.status()["rollout"]["counts"]["candidate"]
    assert counts["disagreed"] == counts["compared"]


def test_a_request_that_both_refuse_does_not_speak_against_the_candidate(
    project: Served, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can take a candidate out by asking nonsense."""
    from mlnb.scorer.kinds import ScorerError
    from mlnb.scorer.loading import Compiled

    engine = start()
    rolled_out(project, engine, {"kind": "blue-green"})
    engine.set_share(1.0, 1, project.digests[2])
    for _ in range(20):
        with pytest.raises(RequestError):
            engine.answer(None, [["x"]], key="a", request_id="r")

    def refuse(self: Any, rows: Any) -> Any:
        raise ScorerError("knows no such thing")

    with monkeypatch.context() as patch:
        patch.setattr(Compiled, "score", refuse)
        for _ in range(20):
            with pytest.raises(RequestError):
                ask(engine)
    assert engine.status()["rollout"]["counts"]["candidate"]["failures"] == 0
    assert ask(engine).version == 2
