"""How long a row takes: the compiled scorer against the pipeline it was made of, in one process.

    python benchmarks/scorer.py [ROUNDS]

Four models over 27 columns of numbers and one of texts. For 1 row and for 100, as plain values: the
pipeline on a data frame made of them, as people write it; the bundle's own way, which checks the
columns as well; the compiled scorer with numpy alone; and with ONNX Runtime. All take turns, on one
thread; what is printed are medians over the rounds, in microseconds, and how many times as long the
pipeline takes. The answers are compared, too.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits
from xgboost import XGBClassifier

from mlnb import scorer
from mlnb.bundle import Bundle, Recipe, pack, save_model

ROWS, NUMBERS, SITES = 6000, 27, ["north", "south", "west", "east", "sea", "hills"]
CALLS = {1: 40, 100: 10}


def table() -> pd.DataFrame:
    """Return rows of numbers, a tenth of them gaps in two columns, one of texts, and a target."""
    random = np.random.default_rng(0)
    numbers = random.gamma(2, 3, (ROWS, NUMBERS)).round(2)
    numbers[random.random((ROWS, NUMBERS)) < (np.arange(NUMBERS) < 2) * 0.1] = np.nan
    frame = pd.DataFrame(numbers, columns=[f"n{index}" for index in range(NUMBERS)])
    frame["site"] = random.choice(SITES, ROWS)
    pull = np.nan_to_num(numbers[:, :6]).sum(axis=1) + 5 * frame["site"].eq("sea")
    frame["yes"] = (pull + random.normal(0, 5, ROWS) > np.median(pull)).astype(int)
    frame["split"] = np.where(np.arange(ROWS) % 3 == 0, "test", "train")
    return frame


def models() -> dict[str, Pipeline]:
    """Return the pipelines, unfitted."""
    names = [f"n{index}" for index in range(NUMBERS)]
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    plain = ColumnTransformer([("n", "passthrough", names), ("t", texts, ["site"])])
    filled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    scaled = ColumnTransformer([("n", filled, names), ("t", texts, ["site"])])
    boosted = XGBClassifier(n_estimators=200, max_depth=4, learning_rate=0.05, n_jobs=1)
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0, n_jobs=1)
    histograms = HistGradientBoostingClassifier(max_iter=200, max_depth=4, random_state=0)
    return {
        "logistic": Pipeline([("columns", scaled), ("model", LogisticRegression(max_iter=500))]),
        "xgboost": Pipeline([("columns", plain), ("model", boosted)]),
        "histograms": Pipeline([("columns", plain), ("model", histograms)]),
        "forest": Pipeline([("columns", plain), ("model", forest)]),
    }


def packed(root: Path, model: Pipeline, frame: pd.DataFrame) -> Bundle:
    """Return the bundle of a model."""
    save_model(model, root / "model.skops")
    recipe = Recipe(
        root=root,
        model="model.skops",
        task="binary",
        rows="rows.parquet",
        target="yes",
        train={"split": ("train",)},
        test={"split": ("test",)},
    )
    return pack(recipe, root / "bundle")


def ways(bundle: Bundle, model: Pipeline) -> dict[str, Callable[[Sequence[Any]], Any]]:
    """Return what answers rows of plain values, by name."""
    names = list(bundle.manifest.features)
    files = dict(bundle.files)

    def pipeline(rows: Sequence[Any]) -> Any:
        return model.predict_proba(pd.DataFrame(rows, columns=names))[:, 1]

    def as_bundle(rows: Sequence[Any]) -> Any:
        return bundle.predict(pd.DataFrame(rows, columns=names, dtype=object))

    return {
        "pipeline": pipeline,
        "bundle": as_bundle,
        "numpy": scorer.load(files, fast=False).score,
        "compiled": scorer.load(files).score,
    }


def seconds(ask: Callable[[Sequence[Any]], Any], rows: Sequence[Any], calls: int) -> float:
    """Return how long one call took, of several."""
    begun = time.perf_counter()
    for _ in range(calls):
        ask(rows)
    return (time.perf_counter() - begun) / calls


def main(rounds: int) -> None:
    """Measure and print."""
    frame = table()
    names = [*(f"n{index}" for index in range(NUMBERS)), "site"]
    train = frame[frame["split"] == "train"]
    line = "{:11} {:>4} {:>10} {:>10} {:>9} {:>9} {:>7} {:>9}  {}"
    print(
        line.format(
            "model", "rows", "pipeline", "bundle", "numpy", "compiled", "ratio", "differs", "core"
        )
    )
    for name, model in models().items():
        with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
            root = Path(folder)
            frame.to_parquet(root / "rows.parquet", index=False)
            bundle = packed(root, model.fit(train[names], train["yes"]), frame)
            all_rows = frame[names].astype(object).where(frame[names].notna(), None)
            rows = all_rows.to_numpy().tolist()
            asked = ways(bundle, model)
            found = asked["compiled"](rows)
            differs = float(np.abs(found - bundle.predict(frame)).max())
            core = json.loads(bundle.files["scorer.json"])["model"]["core"]["kind"]
            engine = scorer.load(bundle.files).engine
            for count, calls in CALLS.items():
                times: dict[str, list[float]] = {way: [] for way in asked}
                for turn in range(rounds):
                    order = list(asked) if turn % 2 else list(reversed(asked))
                    first = turn * 7 % (ROWS - count)
                    for way in order:
                        few = calls if way in ("numpy", "compiled") else max(1, calls // 10)
                        took = seconds(asked[way], rows[first : first + count], few)
                        times[way].append(took * 1e6)
                middle = {way: statistics.median(took) for way, took in times.items()}
                ratio = statistics.median(
                    slow / quick
                    for slow, quick in zip(times["pipeline"], times["compiled"], strict=True)
                )
                shown = [f"{middle[way]:,.1f}" for way in asked]
                print(
                    line.format(
                        name, count, *shown, f"{ratio:.0f}", f"{differs:.1e}", f"{core}, {engine}"
                    )
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
