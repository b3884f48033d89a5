# Code of notebooks/evaluate.ipynb, written by `mlnb code`: edit the notebook instead.
# mlnb-mirror: 1, language: python
# imports notebooks/randhie.py sha256:d48eacdfc61aa9aead0d7b0bd8c9e9b243380c240d94340be3a9d1bddf74f94e

# %%
%load_ext mlnb

# %% tags=['parameters']
from typing import Annotated

from annotated_types import Ge, Gt, Lt

from mlnb import In, Metrics, Plots, Predictions

features: In = "data/features.parquet"
model_file: In = "models/model.skops"
logistic_file: In = "models/logistic.skops"
naive_file: In = "models/naive.skops"
predictions: Predictions = "reports/predictions.parquet"
metrics: Metrics = "reports/metrics/evaluate.json"
slice_metrics: Metrics = "reports/metrics/slices.json"
roc: Plots = "reports/plots/roc.csv"
precision_recall: Plots = "reports/plots/precision_recall.csv"
calibration: Plots = "reports/plots/calibration.csv"
feature_attribution: Plots = "reports/plots/feature_attribution.csv"

decision_threshold: Annotated[float, Gt(0), Lt(1)] = (
    0.25  # Probability from which a member is selected
)
resamples: Annotated[int, Ge(100)] = 2000  # Household resamples behind each interval
shuffles: Annotated[int, Ge(1)] = 5  # Times that each feature is shuffled for its attribution
seed: Annotated[int, Ge(0)] = 0  # Seed of resampling and shuffling

# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from randhie import (
    AUDIT,
    COLOURS,
    FEATURES,
    IDENTITY,
    INK,
    LABELS,
    QUIET,
    TARGET,
    Bootstrap,
    calibration_gap,
    flat,
    interval,
    one_thread,
    plot_style,
    precision_recall_curve,
    probability,
    recall,
    roc_auc,
    roc_curve,
    save_figures,
    save_table,
    score_group,
    value_of,
)
from randhie import (
    metrics as all_metrics,
)
from sklearn.inspection import permutation_importance

from mlnb.bundle import load_model

plot_style()

# %%
names = {"model": "candidate", "logistic": "logistic regression", "naive": "naive rule"}
models = {
    role: load_model(path)
    for role, path in {"model": model_file, "logistic": logistic_file, "naive": naive_file}.items()
}
table = pd.read_parquet(features)
test = table[table["split"] == "test"].reset_index(drop=True)
target = test[TARGET].to_numpy()
scores = {role: probability(fitted, test[FEATURES]) for role, fitted in models.items()}
drawn = Bootstrap.of(test["household"], resamples=resamples, seed=seed)
kind = type(models["model"].named_steps["model"]).__name__

pd.DataFrame(
    {
        "rows": [len(test)],
        "members": [test["zper"].nunique()],
        "households": [test["household"].nunique()],
        "high users": [int(target.sum())],
        "share": [round(target.mean(), 4)],
    },
    index=["test"],
)

# %%
measures = all_metrics(decision_threshold)
values, draws = {}, {}
for role, score in scores.items():
    for name, metric in measures.items():
        values[role, name] = value_of(metric.function, target, score)
        draws[role, name] = drawn.metric(metric.function, target, score)

found = {
    key: interval(values[key], draws[key], inflated=measures[key[1]].inflated) for key in values
}
pd.DataFrame(
    {
        names[role]: ["{:.4f}  [{:.4f}, {:.4f}]".format(*found[role, name]) for name in measures]
        for role in scores
    },
    index=pd.Index([metric.label for metric in measures.values()], name="95 % interval"),
)

# %%
judged = ["roc_auc", "average_precision", "f1", "brier"]
gains = {
    (rival, name): interval(
        values["model", name] - values[rival, name], draws["model", name] - draws[rival, name]
    )
    for rival in ("naive", "logistic")
    for name in judged
}
comparison = pd.DataFrame(
    [
        (
            f"against the {names[rival]}",
            measures[name].label,
            *gain,
            gain.verdict(measures[name].better),
        )
        for (rival, name), gain in gains.items()
    ],
    columns=["candidate", "metric", "difference", "low", "high", "verdict"],
).set_index(["candidate", "metric"])
comparison.round(4)

# %%
figure, axes = plt.subplots(figsize=(7.0, 3.0))
for rival, shift in (("naive", 0.17), ("logistic", -0.17)):
    for i, name in enumerate(reversed(judged)):
        sign = 1 if measures[name].better == "higher" else -1
        value, low, high = (sign * part for part in gains[rival, name])
        axes.plot(
            [low, high], [i + shift] * 2, color=COLOURS[rival], lw=2.5, solid_capstyle="round"
        )
        axes.plot(value, i + shift, "o", color=COLOURS[rival], ms=6, mec="white", mew=0.8)
    top = gains[rival, judged[0]]
    axes.text(top.high + 0.002, 3 + shift, f"vs {names[rival]}", color=COLOURS[rival], va="center")
axes.axvline(0, color=INK, lw=1)
axes.set_yticks(range(4), [measures[name].label for name in reversed(judged)])
axes.set(ylim=(-0.5, 3.5), xlabel="worse  ←  candidate  →  better")
axes.set_title("Paired differences with 95 % intervals (Brier score: sign turned)")
axes.grid(axis="y", visible=False)
plt.show()

# %%
grid = np.linspace(0, 1, 101)
recalls = np.linspace(0.05, 1, 96)  # below, precision rests on a handful of members
few = Bootstrap(drawn.codes, drawn.counts[:400])
curves, bands = {}, {}
for name, curve, at in (("roc", roc_curve, grid), ("pr", precision_recall_curve, recalls)):
    for role, score in scores.items():
        curves[name, role] = curve(target, score, np.ones((1, len(target))), at)[0]
    replicates = few.draws(partial(curve, target, scores["model"], grid=at))
    bands[name] = np.nanquantile(replicates, [0.025, 0.975], axis=0)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.6))
for axes, name, at in ((left, "roc", grid), (right, "pr", recalls)):
    axes.fill_between(at, *bands[name], color=COLOURS["model"], alpha=0.15, lw=0)
    for role in ("naive", "logistic", "model"):
        style = "--" if role == "logistic" else "-"
        axes.plot(at, curves[name, role], style, color=COLOURS[role], lw=1.5)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=np.arange(0.2, 1.1, 0.2))
left.plot([0, 1], [0, 1], color=QUIET, lw=0.8, ls=":")
left.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
right.axhline(target.mean(), color=QUIET, lw=0.8, ls=":")
right.text(
    0.98, target.mean() - 0.02, "everyone selected", color=QUIET, ha="right", va="top", size=8
)
right.set(title="Precision and recall", xlabel="recall", ylabel="precision")
for i, role in enumerate(("model", "logistic", "naive")):
    label = f"{names[role]}  {values[role, 'roc_auc']:.3f}"
    left.text(0.97, 0.24 - 0.08 * i, label, color=COLOURS[role], ha="right", size=8.5)
    label = f"{names[role]}  {values[role, 'average_precision']:.3f}"
    right.text(0.97, 0.93 - 0.08 * i, label, color=COLOURS[role], ha="right", size=8.5)
plt.show()

# %%
group = score_group(scores["model"])
member = np.eye(10)[group]


def share_by_group(weight):
    """Share of high users of each score group [b, 10]."""
    with np.errstate(invalid="ignore"):
        return (weight * target) @ member / (weight @ member)


share = share_by_group(np.ones((1, len(target))))[0]
limits = [interval(v, d) for v, d in zip(share, drawn.draws(share_by_group).T, strict=True)]
calibrated = pd.DataFrame(
    {
        "rows": member.sum(axis=0).astype(int),
        "mean_probability": [scores["model"][group == g].mean() for g in range(10)],
        "share_high_use": share,
        "low": [limit.low for limit in limits],
        "high": [limit.high for limit in limits],
    }
).query("rows > 0")

# %%
figure, axes = plt.subplots(figsize=(7.0, 3.9))
axes.plot([0, 0.8], [0, 0.8], color=QUIET, lw=0.8, ls=":")
axes.vlines(
    calibrated["mean_probability"],
    calibrated["low"],
    calibrated["high"],
    color=COLOURS["model"],
    lw=2.5,
    alpha=0.45,
)
axes.plot(
    calibrated["mean_probability"], calibrated["share_high_use"], "o", color=COLOURS["model"], ms=6
)
counts, edges = np.histogram(scores["model"], bins=40, range=(0, 1))
axes.bar(
    edges[:-1],
    counts / counts.max() * 0.09,
    width=0.023,
    align="edge",
    color=COLOURS["naive"],
    alpha=0.5,
    bottom=-0.1,
)
axes.axvline(decision_threshold, color=INK, lw=1, ls="--")
axes.text(decision_threshold + 0.01, 0.72, f"selected from {decision_threshold:g} on", color=INK)
axes.text(0.66, 0.62, "right on average", color=QUIET, rotation=28, ha="center", size=8.5)
axes.set(
    xlim=(-0.01, 0.9), ylim=(-0.1, 0.8), xlabel="mean probability", ylabel="share of high users"
)
axes.set_title("Told and true, by tenth of the scores")
axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}" if y >= 0 else "")
plt.show()

# %%
test["limitation"] = (test["physlm"] >= 0.5).astype(int)
slices = {
    "site": {site: f"site {site}" for site in sorted(test["site"].unique())},
    "female": {0: "male", 1: "female"},
    AUDIT: {0: "race not black", 1: "race black"},
    "limitation": {0: "no limitation", 1: "limitation"},
}
selected = scores["model"] >= decision_threshold
per_slice, slice_figures = [], {}
for column, groups in slices.items():
    for value, label in groups.items():
        rows = (test[column] == value).to_numpy()
        part, y, score = drawn.only(rows), target[rows], scores["model"][rows]
        auc, gap = (
            interval(value_of(f, y, score), part.metric(f, y, score))
            for f in (roc_auc, calibration_gap)
        )
        caught = value_of(partial(recall, threshold=decision_threshold), y, score)
        chosen = selected[rows].mean()
        per_slice.append((label, rows.sum(), y.sum(), y.mean(), chosen, caught, auc, gap))
        slice_figures[f"{column}_{value}"] = {
            "rows": int(rows.sum()),
            "high_users": int(y.sum()),
            "selected_share": chosen,
            **({"recall": caught} if np.isfinite(caught) else {}),
            **flat("roc_auc", auc),
            **flat("calibration_gap", gap),
        }
columns = ["slice", "rows", "high users", "share", "selected", "recall", "auc", "gap"]
sliced = pd.DataFrame(per_slice, columns=columns).set_index("slice")
sliced.assign(
    auc=["{:.3f}  [{:.3f}, {:.3f}]".format(*auc) for auc in sliced["auc"]],
    gap=["{:+.3f}  [{:+.3f}, {:+.3f}]".format(*gap) for gap in sliced["gap"]],
).round(3)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 4.3), sharey=True)
places, start = [], 0
for groups in slices.values():
    places += [start + i for i in range(len(groups))]
    start = places[-1] + 1.6
for axes, name in ((left, "auc"), (right, "gap")):
    for y, (value, low, high) in zip(places, sliced[name], strict=True):
        axes.plot([low, high], [y, y], color=COLOURS["model"], lw=2.5, alpha=0.45)
        axes.plot(value, y, "o", color=COLOURS["model"], ms=5.5)
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=5)
left.axvline(values["model", "roc_auc"], color=QUIET, lw=1, ls="--")
left.set(title="ROC AUC", xlabel="dashed: all members")
right.axvline(0, color=INK, lw=1)
right.set(title="Calibration gap", xlabel="promises too few  ←  →  too many")
left.set_yticks(places, sliced.index)
left.invert_yaxis()
plt.show()

# %%
audits = {
    "calibration gap": calibration_gap,
    "recall": partial(recall, threshold=decision_threshold),
    "selected share": lambda y, score, weight: (
        weight @ (score >= decision_threshold) / weight.sum(axis=1)
    ),
}


def group_difference(column, function):
    """What a metric gives for group 1 minus what it gives for group 0."""

    def difference(weight):
        of = [
            function(target[rows], scores["model"][rows], weight[:, rows])
            for rows in ((test[column] == 0).to_numpy(), (test[column] == 1).to_numpy())
        ]
        return of[1] - of[0]

    return interval(float(difference(np.ones((1, len(target))))[0]), drawn.draws(difference))


between = {
    (column, name): group_difference(column, function)
    for column in ("female", AUDIT, "limitation")
    for name, function in audits.items()
}
pd.DataFrame(
    [
        (f"{slices[column][1]} minus {slices[column][0]}", name, *gap)
        for (column, name), gap in between.items()
    ],
    columns=["groups", "metric", "difference", "low", "high"],
).set_index(["groups", "metric"]).round(4)

# %%
with one_thread():
    shuffled = permutation_importance(
        models["model"],
        test[FEATURES],
        target,
        scoring="roc_auc",
        n_repeats=shuffles,
        random_state=seed,
        n_jobs=1,
    )
attribution = pd.DataFrame(
    {"feature": FEATURES, "auc_lost": shuffled.importances_mean, "spread": shuffled.importances_std}
).sort_values("auc_lost", ascending=False, ignore_index=True, kind="stable")

# %%
top = attribution.head(12)[::-1]
figure, axes = plt.subplots(figsize=(7.0, 3.7))
axes.barh(top["feature"].map(LABELS), top["auc_lost"], color=COLOURS["model"], height=0.65)
axes.errorbar(top["auc_lost"], range(len(top)), xerr=top["spread"], fmt="none", ecolor=INK, lw=1)
axes.set(xlabel="AUC lost when shuffled (line: spread over shuffles)")
axes.set_title("The twelve features that matter most")
axes.grid(axis="y", visible=False)
plt.show()

# %%
judge = test[[*IDENTITY[:3], TARGET, "site", "female", AUDIT, "limitation"]].assign(
    score=scores["model"], score_logistic=scores["logistic"], score_naive=scores["naive"]
)
save_table(judge, predictions)

# %%
curve_columns = [("true_positive_rate", "roc"), ("precision", "pr")]
for path, x, at, (y, name) in (
    (roc, "false_positive_rate", grid, curve_columns[0]),
    (precision_recall, "recall", recalls, curve_columns[1]),
):
    low, high = bands[name]
    save_table(pd.DataFrame({x: at, y: curves[name, "model"], "low": low, "high": high}), path)
save_table(calibrated, calibration)
save_table(attribution, feature_attribution)

# %%
figures = {
    "rows": len(test),
    "households": test["household"].nunique(),
    "high_users": int(target.sum()),
}
for name in measures:
    figures |= flat(name, found["model", name])
    figures |= {f"{name}_{rival}": values[rival, name] for rival in ("logistic", "naive")}
for (rival, name), gain in gains.items():
    figures |= flat(f"{name}_minus_{rival}", gain)
for (column, name), gap in between.items():
    figures |= flat(f"{name.replace(' ', '_')}_by_{column}", gap)
save_figures(figures, metrics)
save_figures(slice_figures, slice_metrics)

# %%
def conclusion(rival):
    """One sentence on the candidate against a rival, made of the paired AUC difference."""
    gain = gains[rival, "roc_auc"]
    if np.array_equal(scores["model"], scores[rival]):
        return f"The candidate **is** the {names[rival]}: there is nothing to compare."
    claim = {
        "better": f"is **better than** the {names[rival]}",
        "worse": f"is **worse than** the {names[rival]}",
        "not distinguishable": f"is **not better than** the {names[rival]}, by all this test can tell",
    }[gain.verdict("higher")]
    return (
        f"The candidate {claim}: AUC {gain.value:+.4f}, 95 % interval {gain.low:+.4f} to "
        f"{gain.high:+.4f}."
    )


fair = between[AUDIT, "calibration gap"]
alike = fair.low <= 0 <= fair.high
fairness = "show no measurable difference" if alike else "differ"
auc = found["model", "roc_auc"]
Markdown(
    f"- `{kind}` orders the members of {figures['households']:,} unseen households with a ROC AUC "
    f"of **{auc.value:.3f}** ({auc.low:.3f} to {auc.high:.3f}).\n"
    f"- {conclusion('naive')}\n"
    f"- {conclusion('logistic')}\n"
    f"- The two race groups {fairness} in calibration ({fair.value:+.3f}, {fair.low:+.3f} to "
    f"{fair.high:+.3f}); recall differs by {between[AUDIT, 'recall'].value:+.2f}. Use of care is not "
    "need of care."
)
