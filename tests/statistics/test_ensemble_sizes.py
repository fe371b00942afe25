"""How steady averages are: variances recovered where they are known, and the ends where nothing is left to chance."""

import math

import numpy as np
import pytest

from lymphtune.statistics.bootstrap import resample
from lymphtune.statistics.ensemble_sizes import stability
from lymphtune.statistics.metrics import balanced_accuracy

LABELS_P = np.arange(80) % 2
SDS = {"patient": 1.0, "configuration": 0.3, "seed": 0.3, "configuration_patient": 0.4, "seed_patient": 0.5}


def simulated(rng: np.random.Generator, trials: int, repeats: int, patients: int = len(LABELS_P)) -> np.ndarray:
    """Return probabilities [T, R, P] whose logits add one normal effect of each kind in SDS."""
    shapes = {
        "patient": (1, 1, patients),
        "configuration": (trials, 1, 1),
        "seed": (trials, repeats, 1),
        "configuration_patient": (trials, 1, patients),
        "seed_patient": (trials, repeats, patients),
    }
    towards_truth_TRP = 0.9 + sum(SDS[name] * rng.normal(size=shape) for name, shape in shapes.items())
    return 1 / (1 + np.exp(-np.where(np.arange(patients) % 2 == 1, towards_truth_TRP, -towards_truth_TRP)))


def true_variances(size: int, studies: int, rng: np.random.Generator) -> np.ndarray:
    """Return variances of patients, configuration and seed, from ensembles that are really trained anew."""
    scores = []
    for _ in range(studies):
        oof_TRP = simulated(rng, 2 * size, 2)
        same, again, other = oof_TRP[:size, 0], oof_TRP[:size, 1], oof_TRP[size:, 0]
        scores.append([balanced_accuracy(runs_NP.mean(axis=0), LABELS_P) for runs_NP in (same, again, other)])
    same_S, again_S, other_S = np.array(scores).T
    seed, members = ((same_S - those_S).var() / 2 for those_S in (again_S, other_S))
    return np.array([np.cov(same_S, other_S)[0, 1], members - seed, seed])


@pytest.mark.parametrize(("trials", "repeats"), [(8, 4), (5, 5)])
def test_known_variances_are_recovered(trials: int, repeats: int) -> None:
    rng = np.random.default_rng(0)
    found = np.zeros((2, 3))
    for study in range(100):
        for row, of_size in enumerate(stability(simulated(rng, trials, repeats), LABELS_P, (1, 4), 200, study)):
            v = of_size.variances
            assert v.members == pytest.approx(v.configuration + v.seed) and v.total == v.patients + v.members
            found[row] += np.array([v.patients, v.configuration, v.seed]) / 100
    for row, size in enumerate((1, 4)):
        expected = true_variances(size, 3000, rng)
        np.testing.assert_allclose(found[row], expected, rtol=0.15, atol=0.02 * expected.sum())


def test_one_seed_a_configuration_leaves_them_together() -> None:
    rng = np.random.default_rng(0)
    studies = [stability(simulated(rng, 20, 1), LABELS_P, (4,), 200)[0].variances for _ in range(100)]
    assert all(math.isnan(v.configuration) and math.isnan(v.seed) for v in studies)
    expected = true_variances(4, 3000, rng)
    assert np.mean([v.members for v in studies]) == pytest.approx(expected[1] + expected[2], rel=0.15)


def test_one_configuration_has_no_luck_but_the_seeds() -> None:
    one, two = (s.variances for s in stability(simulated(np.random.default_rng(0), 1, 8), LABELS_P, (1, 2)))
    assert math.isnan(one.configuration) and one.seed == one.members > two.seed == two.members


def test_single_runs_give_the_textbooks_mean_squares() -> None:
    oof_TRP = simulated(np.random.default_rng(3), 6, 3)
    (single,) = stability(oof_TRP, LABELS_P, [1])
    scores_TR = balanced_accuracy(oof_TRP, LABELS_P)
    within, between = scores_TR.var(axis=1, ddof=1).mean(), 3 * scores_TR.mean(axis=1).var(ddof=1)
    assert between > within
    assert single.variances.seed == pytest.approx(within)
    assert single.variances.configuration == pytest.approx((between - within) / 3)
    assert single.exhaustive and len(single.scores_E) == 18 and single.gain == 0


def test_the_patients_variance_is_what_a_bootstrap_gives() -> None:
    """Of all runs averaged, where there is no luck of the draw to take off."""
    oof_TRP = simulated(np.random.default_rng(1), 4, 2)
    (whole,) = stability(oof_TRP, LABELS_P, [8])
    drawn_S = balanced_accuracy(oof_TRP.mean(axis=(0, 1)), LABELS_P, resample(LABELS_P, 20_000, 0))
    assert whole.variances.patients == pytest.approx(drawn_S.var() * 40 / 39, rel=0.03)


def test_patients_that_are_all_alike_bring_no_luck_of_their_own() -> None:
    rng = np.random.default_rng(0)
    variances = []
    for _ in range(50):
        right_TRP = rng.random((8, 1, 80)) < 0.8
        said_TRP = np.where(right_TRP == (LABELS_P == 1), 0.9, 0.1)
        variances.append(stability(said_TRP, LABELS_P, [1])[0].variances)
    assert np.mean([v.patients for v in variances]) < 0.2 * np.mean([v.members for v in variances]) / 8


def test_configurations_that_differ_by_less_than_their_seeds_have_no_variance() -> None:
    """Trials whose means are equal: all that there is is put down to the seeds."""
    right_TR, said_TRP = np.array([[30, 34], [32, 32]]), np.full((2, 2, 80), 0.0)
    for trial, repeat in np.ndindex(2, 2):
        said_TRP[trial, repeat, 1 : 2 * right_TR[trial, repeat] : 2] = 1.0
    (single,) = stability(said_TRP, LABELS_P, [1])
    scores_TR = balanced_accuracy(said_TRP, LABELS_P)
    assert single.variances.configuration == 0
    assert single.variances.members == single.variances.seed == pytest.approx(scores_TR.var(ddof=1))


def test_identical_runs_never_scatter() -> None:
    oof_TRP = np.broadcast_to(simulated(np.random.default_rng(0), 1, 1), (6, 3, 80))
    for of_size in stability(oof_TRP, LABELS_P, (1, 2, 5, 18)):
        assert of_size.sd == 0 and of_size.quantile(0) == of_size.quantile(1) == pytest.approx(of_size.mean)
        assert of_size.variances.patients > 0
    for of_size in stability(oof_TRP, LABELS_P, (1, 2, 5)):
        assert of_size.variances.configuration == of_size.variances.seed == of_size.sd_new == 0


def test_all_runs_make_one_ensemble_which_says_nothing_of_new_ones() -> None:
    oof_TRP = simulated(np.random.default_rng(0), 4, 3)
    (whole,) = stability(oof_TRP, LABELS_P, [12])
    assert whole.sd == 0 and math.isnan(whole.sd_new) and math.isnan(whole.variances.total)
    np.testing.assert_array_equal(whole.scores_E, balanced_accuracy(oof_TRP.mean(axis=(0, 1)), LABELS_P))


def test_the_order_of_trials_and_repeats_changes_nothing() -> None:
    oof_TRP = simulated(np.random.default_rng(0), 8, 4)
    shuffled_TRP = oof_TRP[[3, 1, 7, 0, 2, 6, 5, 4]][:, [2, 0, 3, 1]]
    for one, other in zip(*(stability(runs, LABELS_P, (2, 6), 300) for runs in (oof_TRP, shuffled_TRP)), strict=True):
        np.testing.assert_array_equal(one.scores_E, other.scores_E)
        assert one.variances == other.variances and one.gain == other.gain


def test_few_combinations_are_all_taken_and_many_are_sampled() -> None:
    oof_TRP = simulated(np.random.default_rng(0), 6, 1)
    two, three = stability(oof_TRP, LABELS_P, (2, 3), draws=15)
    assert (two.exhaustive, len(two.scores_E)) == (True, 15) and (three.exhaustive, len(three.scores_E)) == (False, 15)
    both = [oof_TRP[[i, j], 0].mean(axis=0) for i in range(6) for j in range(i)]
    np.testing.assert_array_equal(np.sort(two.scores_E), np.sort(balanced_accuracy(np.array(both), LABELS_P)))


def test_sampled_ensembles_have_distinct_members_and_repeat_with_the_seed() -> None:
    """A run of half the patients and one of the other half: only together do they score 0.75, twice one 0.5."""
    said_TRP = np.full((2, 1, 80), 0.4)
    said_TRP[0, 0, 1:40:2], said_TRP[1, 0, 41:80:2] = 0.9, 0.9
    (pair,) = stability(said_TRP, LABELS_P, [2], draws=2)
    assert pair.scores_E.tolist() == [1.0] and pair.gain == 0.25
    oof_TRP = simulated(np.random.default_rng(0), 12, 2)
    first, again, other = (stability(oof_TRP, LABELS_P, [4], 50, seed)[0].scores_E for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_means_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    oof_TRP = simulated(np.random.default_rng(0), 8, 2)
    whole = stability(oof_TRP, LABELS_P, [3], 100)[0].scores_E
    monkeypatch.setattr("lymphtune.statistics.ensemble_sizes.BLOCK_VALUES", 700)
    np.testing.assert_array_equal(stability(oof_TRP, LABELS_P, [3], 100)[0].scores_E, whole)


def test_a_class_of_one_patient_is_no_error() -> None:
    oof_TRP = simulated(np.random.default_rng(0), 6, 2, patients=3)
    single, pair = stability(oof_TRP, np.array([0, 1, 0]), (1, 2))
    assert single.variances.total >= 0 and pair.variances.total >= 0
