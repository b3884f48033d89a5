"""How often candidates go back, by simulation: healthy ones and bad ones.

python benchmarks/canary.py [--times 200]
"""

from __future__ import annotations

import argparse
import random
import statistics

from mlnb.rollout import Counts, Strategy, decide

CANARY = Strategy.parse({"kind": "canary", "steps": [0.1, 0.5, 1.0]})


def campaign(
    generator: random.Random, stable: tuple[float, float], candidate: tuple[float, float]
) -> tuple[str, int, int]:
    """Roll out, looking after each request of the candidate.

    Args:
        generator: of chance.
        stable, candidate: rates of failures and of slow answers.

    Returns:
        How it ended, requests of the candidate and of both.
    """
    sums, step = ([0, 0, 0], [0, 0, 0]), 0
    for number in range(1, 20_001):
        variant = generator.random() < CANARY.shares[step]
        errors, slow = candidate if variant else stable
        of = sums[variant]
        failed = generator.random() < errors
        of[0], of[1], of[2] = of[0] + 1, of[1] + failed, of[2] + (generator.random() < slow)
        if variant:
            action = decide(CANARY, step, Counts(*sums[1]), Counts(*sums[0])).action
            if action == "rollback":
                return "back", sums[1][0], number
            if action == "advance":
                step += 1
                if step == len(CANARY.shares):
                    return "complete", sums[1][0], number
    return "held", sums[1][0], number


def main() -> None:
    """Print the figures."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--times", type=int, default=200)
    times = words.parse_args().times
    for rates in ((0.0, 0.01), (0.0005, 0.02), (0.001, 0.05), (0.002, 0.03), (0.01, 0.1)):
        generator = random.Random(0)
        found = [campaign(generator, rates, rates) for _ in range(times)]
        ends = [end for end, _, _ in found]
        print(
            f"healthy, both {rates[0]:.2%} failures and {rates[1]:.0%} slow: {ends.count('back')}"
            f" of {times} back, {ends.count('complete')} complete after"
            f" {statistics.median(all_ for _, _, all_ in found):,.0f} requests (median)"
        )
    for name, rates in (
        ("always fails", (1.0, 0.0)),
        ("always slow", (0.0, 1.0)),
        ("10 % failures", (0.1, 0.01)),
        ("5 % failures", (0.05, 0.01)),
    ):
        generator = random.Random(0)
        found = [campaign(generator, (0.0, 0.01), rates) for _ in range(times)]
        asked = sorted(count for _, count, _ in found)
        both = sorted(count for _, _, count in found)
        print(
            f"{name}: {sum(end == 'back' for end, _, _ in found)} of {times} back; requests of the"
            f" candidate: median {asked[times // 2]}, 95th percentile {asked[times * 95 // 100]},"
            f" most {asked[-1]}; of both: median {both[times // 2]}, most {both[-1]}"
        )


if __name__ == "__main__":
    main()
