"""How often the verdict about settings is wrong, how often it finds a difference, and what its intervals cover.

The test accuracies of a setting's seeds are drawn as binomial over 10,000 images around 94%, plus normal noise of 0.2
points between seeds. The first table is of two settings; "intervals apart" is the rule that the verdict replaced: both
95% t intervals do not meet. The second is of several equal settings, of which the one with the best mean validation
accuracy (5,000 images, the same networks) is the baseline, corrected by Holm for the comparisons with it; of the last
columns the baseline has the best mean test accuracy, corrected for all pairs. Prints Markdown.

    python benchmarks/group_tests.py [--draws 10000]
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from cifar_exp.evaluation.group_tests import corrected, detectable_difference, power, welch
from cifar_exp.evaluation.statistics import SIGNIFICANCE, t_interval

ACCURACY, SEED_NOISE, TEST_IMAGES, VALIDATION_IMAGES = 0.94, 0.002, 10_000, 5_000
SPREAD = (SEED_NOISE**2 + ACCURACY * (1 - ACCURACY) / TEST_IMAGES) ** 0.5  # of a seed's test accuracy, in all


def networks(rng: np.random.Generator, shape: tuple[int, ...], noise: float = SEED_NOISE) -> NDArray[np.float64]:
    """The true accuracies of networks that differ by their seed."""
    return np.clip(rng.normal(ACCURACY, noise, shape), 0, 1)


def measured(rng: np.random.Generator, true: NDArray[np.float64], images: int) -> NDArray[np.float64]:
    """Their accuracies on so many images."""
    return rng.binomial(images, true) / images


def two_settings(rng: np.random.Generator, n: int, difference: float, draws: int) -> tuple[float, float, float]:
    """Shares of the draws with a verdict, with intervals apart, and with a difference interval that covers."""
    a = measured(rng, networks(rng, (draws, n)), TEST_IMAGES)
    b = measured(rng, networks(rng, (draws, n)) + difference, TEST_IMAGES)
    found = covered = 0
    for one, other in zip(a, b, strict=True):
        result = welch(one, other)  # None, without a verdict, where neither group has any spread
        found += result is not None and result.p_value < SIGNIFICANCE
        covered += result is None or result.low <= difference <= result.high
    count = np.full(draws, n)
    low_a, high_a = t_interval(a.mean(1), a.std(1, ddof=1), count)
    low_b, high_b = t_interval(b.mean(1), b.std(1, ddof=1), count)
    return found / draws, float(np.mean((low_b > high_a) | (low_a > high_b))), covered / draws


def equal_settings(
    rng: np.random.Generator, settings: int, n: int, noise: float, by: str, draws: int
) -> tuple[float, float]:
    """Shares of the draws in which any of the equal settings gets a verdict against the chosen baseline.

    The first is by Holm's correction alone, the second with the correction for the choice.
    """
    false = np.zeros(2)
    for _ in range(draws):
        true = networks(rng, (settings, n), noise)
        test = measured(rng, true, TEST_IMAGES)
        choice = measured(rng, true, VALIDATION_IMAGES) if by == "validation" else test
        best = int(choice.mean(1).argmax())
        results = [welch(test[best], test[other]) for other in range(settings) if other != best]
        tests = [one for one in results if one]
        false += [min(corrected(tests, of), default=1.0) < SIGNIFICANCE for of in (None, settings)]
    return float(false[0]) / draws, float(false[1]) / draws


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10_000)
    draws = parser.parse_args().draws
    rng = np.random.default_rng(0)
    print(f"{draws:,} draws; a seed's test accuracy has a standard deviation of {100 * SPREAD:.2f} points.\n")
    print("| n | true difference | verdict | power by formula | intervals apart | difference interval covers |")
    print("|---:|---:|---:|---:|---:|---:|")
    for n in (3, 5, 10):
        for multiple in (0, 1, 2, 3):
            difference = multiple * SPREAD
            found, apart, covered = two_settings(rng, n, difference, draws)
            formula = power(difference, (SPREAD, SPREAD), (n, n))
            print(
                f"| {n} | {100 * difference:.2f} points | {found:.1%} | {formula:.1%} | {apart:.1%} | {covered:.1%} |",
                flush=True,
            )
    print("\nDetectable with a probability of 80%: ", end="")
    print(", ".join(f"n = {n}: {100 * detectable_difference((SPREAD, SPREAD), (n, n)):.2f} points" for n in (3, 5, 10)))
    print("\nEach cell: by Holm's correction alone, and with Games-Howell's.\n")
    print("| settings | n | by validation | the same, seed noise 0.5 points | the same, 2 points | by test accuracy |")
    print("|---:|---:|---:|---:|---:|---:|")
    cases = ((SEED_NOISE, "validation"), (0.005, "validation"), (0.02, "validation"), (0.005, "test"))
    for settings in (2, 4, 8, 12):
        for n in (3, 5, 10):
            shares = [equal_settings(rng, settings, n, noise, by, draws // 5) for noise, by in cases]
            cells = " | ".join(f"{alone:.1%}, {both:.1%}" for alone, both in shares)
            print(f"| {settings} | {n} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
