"""Do intervals hold where patients belong together? Simulated groups whose members resemble each other.

A fixed model's scores are drawn with a share `alike` of their variance common to the group; the truth is known.

    python benchmarks/groups.py --repetitions 1000
"""

import argparse
from itertools import product

import numpy as np
from scipy.stats import norm

from lymphtune.statistics.honest import fixed_score

WORLDS = ((60, 1, 0.0), (40, 2, 0.9), (40, 2, 0.3), (25, 4, 0.5), (25, 4, 0.0))  # groups, patients of each, alike
SKILLS = (0.8, 1.6)  # distance of either class's mean score from the threshold, in standard deviations


def draw(rng: np.random.Generator, n_groups: int, size: int, alike: float, skill: float) -> tuple[np.ndarray, ...]:
    """Return probabilities, labels and groups of patients, all of one group with the same label."""
    group_P = np.repeat(np.arange(n_groups), size)
    labels_P = (rng.permutation(n_groups) % 2)[group_P]
    common_P, own_P = rng.normal(size=n_groups)[group_P], rng.normal(size=len(group_P))
    score_P = skill * (2 * labels_P - 1) + alike**0.5 * common_P + (1 - alike) ** 0.5 * own_P
    return 1 / (1 + np.exp(-score_P)), labels_P, group_P


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    repetitions = parser.parse_args().repetitions
    print("| groups | of | alike | score | truth | covered | width | covered, alone | width |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (n_groups, size, alike), skill in product(WORLDS, SKILLS):
        truths = {"balanced_accuracy": norm.cdf(skill), "auc": norm.cdf(skill * 2**0.5)}
        rng = np.random.default_rng(0)
        drawn = [draw(rng, n_groups, size, alike, skill) for _ in range(repetitions)]
        for metric, truth in truths.items():
            cells = [f"{n_groups} | {size} | {alike} | {metric} | {truth:.3f}"]
            for together in (True, False):
                found = [fixed_score(said, y, metric, group_P=group if together else None) for said, y, group in drawn]
                covered = np.mean([one.low <= truth <= one.high for one in found])
                cells.append(f"{100 * covered:.0f} % | {np.mean([one.high - one.low for one in found]):.3f}")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
