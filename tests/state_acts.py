"""What the tests of faults let happen to a state, and deliberately worse ways of keeping one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mlnb.state import ConflictError, open_state

WHO: dict[str, Any] = {"who": "ada", "reason": "tests"}
LAST = 200


def bundle(number: int) -> str:
    return f"sha256:{number:064x}"


def register(place: str, number: str = "4") -> None:
    open_state(place).register(
        bundle=bundle(int(number)), candidate=f"c{number}", commit="f00", verdict="v", by="ada"
    )


def record(place: str) -> None:
    open_state(place).record(3, verdict="blocked", **WHO)


def approve(place: str) -> None:
    open_state(place).approve(3, "production", **WHO)


def promote(place: str) -> None:
    open_state(place).move("production", 3, expected=2, kind="promote", **WHO)


def rollback(place: str) -> None:
    open_state(place).move("production", 1, expected=2, kind="rollback", **WHO)


def prepare(place: str) -> None:
    """Make a state with three versions, the second in production."""
    for number in "123":
        register(place, number)
    open_state(place).move("production", 2, expected=None, kind="promote", **WHO)


def fill(place: str) -> None:
    """Make a state with as many versions as 8 processes can move to, 25 times each."""
    state = open_state(place)
    for n in range(1, LAST + 1):
        state.register(bundle=bundle(n), candidate="c", commit="f00", verdict="v", by="ada")


def naive(folder: str) -> None:
    """Move an alias as one writes it without thinking: a file of aliases, and a log beside it."""
    path = Path(folder, "aliases.json")
    content = json.loads(path.read_text())
    content["production"] = 3
    with path.open("w") as file:
        json.dump(content, file)
    with Path(folder, "log").open("a") as file:
        file.write("production 3\n")


def count_up(place: str, history: str, each: str) -> None:
    """Move an alias so many times, each to the version after the one that it is at."""
    state = open_state(place)
    moves = 0
    with Path(history).open("w") as file:
        while moves < int(each):
            now = state.aliases().get("production")
            following = (now or 0) + 1
            try:
                state.move("production", following, expected=now, kind="promote", **WHO)
            except ConflictError:
                continue
            moves += 1
            print(now or 0, following, file=file)


# MLflow's aliases, in the same way.


def load_mlflow(uri: str) -> None:
    """Import MLflow, and make its store with a model of enough versions."""
    import warnings

    warnings.simplefilter("ignore")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import logging

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    import mlflow.store.model_registry.sqlalchemy_store as registry
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(uri, "/nowhere").engine.dispose()
    store = registry.SqlAlchemyStore(uri)
    store.create_registered_model("model")
    store.create_model_version("model", "/nowhere/1")
    with store.ManagedSessionMaker() as session:
        columns = SqlModelVersion.__table__.columns.keys()
        first = session.query(SqlModelVersion).one()
        values = {name: getattr(first, name) for name in columns if hasattr(first, name)}
        session.bulk_insert_mappings(
            SqlModelVersion, [{**values, "version": n} for n in range(2, LAST + 2)]
        )
    store.set_registered_model_alias("model", "production", "1")
    store.engine.dispose()
    registry.SqlAlchemyStore._engine_map.pop(uri, None)


def count_up_mlflow(uri: str, history: str, each: str) -> None:
    """Do with MLflow's alias what ``count_up`` does with ours; it has no way to expect."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(uri)
    with Path(history).open("w") as file:
        for _ in range(int(each)):
            now = int(store.get_model_version_by_alias("model", "production").version)
            store.set_registered_model_alias("model", "production", str(now + 1))
            print(now, now + 1, file=file)
