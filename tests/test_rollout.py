"""Rolling out: strategies, the sequential test, and what counts come to."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.rollout import Counts, Evidence, Strategy, StrategyError, decide

ORIGIN = "sha256:" + "0" * 64
CANARY = Strategy.parse({"kind": "canary", "steps": [0.1, 0.5, 1.0], "from": ORIGIN})


def campaign(
    generator: random.Random, errors: float, slow: float, own: float = 0.0, most: int = 6000
) -> tuple[str, int, int]:
    """Roll out; return how it ended, and requests and failures of the candidate until then."""
    sums, step = ([0, 0, 0], [0, 0, 0]), 0
    for _ in range(most):
        variant = generator.random() < CANARY.shares[step]
        of = sums[variant]
        failed = generator.random() < (errors if variant else own)
        late = not failed and generator.random() < (slow if variant else 0.02)
        of[0], of[1], of[2] = of[0] + 1, of[1] + failed, of[2] + late
        if variant:  # looked at after each request
            found = decide(CANARY, step, Counts(*sums[1]), Counts(*sums[0]))
            if found.action == "rollback":
                return "back", sums[1][0], sums[1][1]
            if found.action == "advance":
                step += 1
                if step == len(CANARY.shares):
                    return "complete", sums[1][0], sums[1][1]
    return "held", sums[1][0], sums[1][1]


def test_healthy_candidates_complete() -> None:
    """Of 200, looked at after each request, at most one is sent back; all others complete."""
    generator = random.Random(1)
    ends = [campaign(generator, 0.0005, 0.02)[0] for _ in range(200)]
    assert ends.count("back") <= 1
    assert ends.count("complete") >= 198


@pytest.mark.parametrize(
    ("errors", "slow", "most"), [(1.0, 0.0, 3), (0.0, 1.0, 60), (0.05, 0.02, 600)]
)
def test_bad_candidates_go_back(errors: float, slow: float, most: int) -> None:
    """That always fails after 3 requests; that is always slow after 60; 5 % errors after 600."""
    generator = random.Random(2)
    for _ in range(30):
        end, requests, failures = campaign(generator, errors, slow)
        assert end == "back"
        assert requests <= most
        assert errors < 1 or failures <= 3


def test_a_candidate_is_held_against_what_stable_does() -> None:
    """With 2 % failures of its own, stable's rate is what the candidate may have; 30 % is not."""
    stable = Counts(requests=5000, failures=100)
    assert decide(CANARY, 0, Counts(requests=1000, failures=20), stable).action != "rollback"
    assert decide(CANARY, 0, Counts(requests=100, failures=30), stable).action == "rollback"
    alone = decide(CANARY, 0, Counts(requests=1000, failures=20), Counts(requests=5000))
    assert alone.action == "rollback"
    assert "20 failures of 1,000 (2.00%)" in alone.reason


def test_few_requests_hold() -> None:
    """Without enough of them nothing is clear, and each step asks for as many again."""
    assert decide(CANARY, 0, Counts(), Counts()).action == "hold"
    few = decide(CANARY, 0, Counts(requests=99), Counts(requests=900))
    assert (few.action, few.reason) == ("hold", "had 99 of 100 requests")
    assert decide(CANARY, 0, Counts(requests=250), Counts()).action == "advance"
    assert decide(CANARY, 2, Counts(requests=250), Counts()).action == "hold"
    unclear = decide(CANARY, 0, Counts(requests=100), Counts())
    assert unclear.action == "hold"
    assert unclear.reason.startswith("not clear yet")


def test_a_stall_of_the_machine_is_no_verdict() -> None:
    """Nine slow answers at the start do not send it back; the tenth does."""
    assert decide(CANARY, 0, Counts(requests=9, slow=9), Counts()).action == "hold"
    assert decide(CANARY, 0, Counts(requests=10, slow=10), Counts()).action == "rollback"


def test_disagreement_is_judged_only_where_a_limit_is_set() -> None:
    """A better model disagrees, too; a limit is the owner's."""
    seen = Counts(requests=500, compared=500, disagreed=300)
    assert decide(CANARY, 0, seen, Counts()).action == "advance"
    limited = Strategy.parse({"kind": "shadow", "from": ORIGIN, "disagreement": 0.1})
    assert decide(limited, 0, seen, Counts()).action == "rollback"
    few = decide(limited, 0, Counts(compared=50), Counts())
    assert few.reason == "had 50 of 100 compared rows"


@given(total=st.integers(1, 10_000), share=st.floats(0, 1))
def test_more_failures_never_speak_for_a_candidate(total: int, share: float) -> None:
    """The evidence grows with each failure, and falls with each right answer."""
    count = int(total * share)
    evidence = Evidence("failures", count, total, 0.001, 0.02)
    assert Evidence("failures", count + 1, total + 1, 0.001, 0.02).log_ratio > evidence.log_ratio
    assert Evidence("failures", count, total + 1, 0.001, 0.02).log_ratio < evidence.log_ratio


def test_a_strategy_says_itself() -> None:
    """What a statement says of a strategy gives it again; {} is at once."""
    for told in ({}, {"kind": "shadow"}, {"kind": "blue-green", "hours": 2, "from": ORIGIN}):
        assert Strategy.parse(Strategy.parse(told).told) == Strategy.parse(told)
    assert Strategy.parse(CANARY.told) == CANARY
    assert Strategy.parse({}).told == {}
    assert Strategy.parse({"kind": "canary"}).shares == (0.05, 0.25, 0.5, 1.0)
    assert CANARY.words() == "canary, 10%, 50%, 100%"


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"kind": "canari"}, "kind must be one of"),
        ({"kind": "canary", "steps": [0.5, 0.1]}, "steps must be shares"),
        ({"kind": "canary", "steps": "all"}, "steps must be a list"),
        ({"kind": "canary", "from": "sha256:1"}, "from must be the digest"),
        ({"kind": "canary", "step": [0.1]}, "unknown word 'step'. Did you mean 'steps'"),
        ({"kind": "canary", "failures": 0.5}, "failures must be below"),
        ({"kind": "canary", "alpha": True}, "alpha must be a number"),
        ({"kind": "canary", "latency-factor": 1}, "latency-factor must be above 1"),
        ({"kind": "canary", "hours": float("nan")}, "hours must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(told: dict[str, Any], says: str) -> None:
    """The message names the word and what it may be."""
    with pytest.raises(StrategyError, match=says):
        Strategy.parse(told)
