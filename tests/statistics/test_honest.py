"""The honest score: choosing among useless models earns nothing, cheating shows, and intervals never close.

Shapes: M models, S resamples, P patients.
"""

from collections.abc import Callable

import numpy as np
import pytest

from lymphtune.statistics.bootstrap import grouping, resample
from lymphtune.statistics.honest import (
    SCORES,
    HeldOutScorer,
    ResampledPredictions,
    choice_variance,
    fixed_score,
    wilson,
)
from lymphtune.statistics.metrics import METRICS, auc, balanced_accuracy, balanced_log_loss, calibration_error

LABELS_P = np.arange(60) % 2
COUNTS_SP = resample(LABELS_P, 1000, 0)
SCORER = HeldOutScorer(LABELS_P, COUNTS_SP)


def useless_models(models: int, seed: int = 0) -> np.ndarray:
    """Return probabilities [M, P] that know nothing of the labels."""
    return np.random.default_rng(seed).random((models, len(LABELS_P)))


def noisy(skill: float, seed: int = 0, labels_P: np.ndarray = LABELS_P) -> np.ndarray:
    noise_P = np.random.default_rng(seed).random(len(labels_P))
    return skill * labels_P + (1 - skill) * noise_P


def judged(procedure: Callable[[np.ndarray], np.ndarray]) -> ResampledPredictions:
    return ResampledPredictions.plain(np.array([procedure(counts_P) for counts_P in COUNTS_SP]))


def best_of(probabilities_MP: np.ndarray, counts_P: np.ndarray) -> np.ndarray:
    """Return the probabilities of the model that scores best on the patients drawn."""
    return probabilities_MP[np.argmax(balanced_accuracy(probabilities_MP, LABELS_P, counts_P))]


def always(probabilities_P: np.ndarray) -> ResampledPredictions:
    return ResampledPredictions.plain(np.tile(probabilities_P, (len(COUNTS_SP), 1)))


def test_the_best_of_many_useless_models_is_worth_nothing() -> None:
    naive, honest = [], []
    for seed in range(5):
        models_MP = useless_models(200, seed)
        naive.append(balanced_accuracy(best_of(models_MP, np.ones(60)), LABELS_P))
        found = SCORER.score(
            judged(lambda counts, models_MP=models_MP: best_of(models_MP, counts)), "balanced_accuracy"
        )
        assert found.low < 0.5 < found.high < min(naive)
        honest.append(found.value)
    assert min(naive) > 0.58
    assert 0.45 < np.mean(honest) < 0.55


def test_a_procedure_that_looks_at_the_left_out_scores_higher() -> None:
    models_MP = useless_models(200)
    honest, cheat, thief = (
        SCORER.score(judged(procedure), "balanced_accuracy").value
        for procedure in (
            lambda counts: best_of(models_MP, counts),
            lambda counts: best_of(models_MP, np.ones(60)),
            lambda counts: best_of(models_MP, (counts == 0).astype(float)),
        )
    )
    assert honest + 0.08 < cheat < thief


def test_the_score_is_of_patients_not_drawn() -> None:
    """A model that is right of drawn patients only, and one that is right of the others only."""
    drawn = judged(lambda counts: np.where(counts > 0, LABELS_P, 1 - LABELS_P).astype(float))
    others = judged(lambda counts: np.where(counts > 0, 1 - LABELS_P, LABELS_P).astype(float))
    for metric, wrong in (("balanced_accuracy", 0), ("auc", 0), ("brier", 1)):
        assert SCORER.score(drawn, metric).value == pytest.approx(wrong)
        assert SCORER.score(others, metric).value == pytest.approx(1 - wrong)


@pytest.mark.parametrize("metric", METRICS)
def test_a_fixed_model_scores_what_it_scores(metric: str) -> None:
    probabilities_P = noisy(0.3)
    found = SCORER.score(always(probabilities_P), metric)
    off = 0.01 if metric == "auc" else 1e-9  # whom a patient is compared with varies with who is left out
    assert found.value == pytest.approx(float(METRICS[metric](probabilities_P, LABELS_P)), abs=off)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("metric", SCORES)
def test_intervals_hold_the_truth_of_a_fixed_model(metric: str) -> None:
    """94 to 96 of 100, were they many; here 300 cohorts of 60."""
    truth = float(METRICS[metric](*_many()))
    covered = []
    for seed in range(300):
        found = fixed_score(noisy(0.3, seed), LABELS_P, metric)
        covered.append(found.low <= truth <= found.high)
    assert 0.91 <= np.mean(covered) <= 0.985


def test_an_interval_narrows_with_patients() -> None:
    widths = []
    for n_patients in (38, 380):
        labels_P = np.arange(n_patients) % 2
        right_P = np.random.default_rng(0).random(n_patients) < 0.85
        found = fixed_score(np.where(right_P, labels_P, 1 - labels_P).astype(float), labels_P, "balanced_accuracy")
        widths.append(found.high - found.low)
    assert 0.17 < widths[0] < 0.28  # 11 points either way on the study's hold-out
    assert widths[1] < 0.4 * widths[0]


def _many() -> tuple[np.ndarray, np.ndarray]:
    labels_P = np.arange(20_000) % 2
    return noisy(0.3, 1, labels_P), labels_P


@pytest.mark.parametrize("metric", ["balanced_accuracy", "recall", "specificity", "auc"])
@pytest.mark.parametrize("worth", [0, 1])
def test_a_perfect_or_hopeless_score_keeps_an_interval(metric: str, worth: int) -> None:
    probability_P = (LABELS_P if worth else 1 - LABELS_P).astype(float)
    for found in (SCORER.score(always(probability_P), metric), fixed_score(probability_P, LABELS_P, metric)):
        assert found.value == worth and 0.03 < found.high - found.low < 0.2
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_thresholds_of_the_resamples_are_used() -> None:
    said = np.tile(np.where(LABELS_P == 1, 0.4, 0.3), (1000, 1))
    right = ResampledPredictions(said, np.full(1000, 0.35))
    assert SCORER.score(right, "balanced_accuracy").value == 1
    assert SCORER.score(ResampledPredictions.plain(said), "recall").value == 0
    assert SCORER.gain(right, ResampledPredictions.plain(said), "balanced_accuracy").difference.value == pytest.approx(
        0.5
    )


def test_patients_that_are_referred_do_not_count() -> None:
    wrong_P = np.arange(60) < 20
    probability_P = np.where(wrong_P, 1 - LABELS_P, LABELS_P).astype(float)
    not_referred_SP = np.broadcast_to(~wrong_P, (1000, 60))
    judged_ = ResampledPredictions(np.tile(probability_P, (1000, 1)), np.full(1000, 0.5), not_referred_SP)
    found = SCORER.score(judged_, "balanced_accuracy")
    assert found.value == 1
    everyone = SCORER.score(always(LABELS_P.astype(float)), "balanced_accuracy")
    assert found.low < everyone.low  # fewer patients say it
    all_gone = ResampledPredictions(
        judged_.probability_SP, judged_.threshold_S, np.broadcast_to(LABELS_P == 1, (1000, 60))
    )
    assert np.isnan(SCORER.score(all_gone, "balanced_accuracy").value)


def test_a_perfect_score_is_as_sure_as_its_patients_are_many() -> None:
    """However many resamples there were."""
    few = HeldOutScorer(LABELS_P, COUNTS_SP[:50]).score(
        ResampledPredictions.plain(np.tile(LABELS_P.astype(float), (50, 1))), "recall"
    )
    assert few.low == pytest.approx(fixed_score(LABELS_P.astype(float), LABELS_P, "recall").low)


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    better_P = noisy(0.45, 1)
    worse_P = better_P.copy()
    worse_P[:6] = 1 - LABELS_P[:6]
    gain = SCORER.gain(always(better_P), always(worse_P), "balanced_accuracy")
    one, other = (SCORER.score(always(probability_P), "balanced_accuracy") for probability_P in (better_P, worse_P))
    unpaired = np.hypot(one.high - one.low, other.high - other.low)
    expected = balanced_accuracy(better_P, LABELS_P) - balanced_accuracy(worse_P, LABELS_P)
    assert gain.difference.value == pytest.approx(float(expected), abs=0.01)
    assert gain.difference.high - gain.difference.low < unpaired and gain.better > 0.9
    turned = SCORER.gain(always(worse_P), always(better_P), "balanced_accuracy")
    assert turned.difference.high == pytest.approx(-gain.difference.low) and turned.better == pytest.approx(
        1 - gain.better
    )
    loss = SCORER.gain(always(better_P), always(worse_P), "log_loss")
    assert loss.difference.value < 0 and loss.better > 0.9


def test_two_that_agree_everywhere_are_not_surely_alike() -> None:
    gain = SCORER.gain(always(noisy(0.3)), always(noisy(0.3)), "balanced_accuracy")
    assert gain.difference.value == 0 and gain.better == pytest.approx(0.5)
    assert gain.difference.low < -0.02 and gain.difference.high > 0.02


def test_the_choice_between_unlike_models_widens_the_interval() -> None:
    """A procedure that takes a good or a bad model by lot knows less of its worth than either alone."""
    good_P, bad_P = noisy(0.9, 1), noisy(0.0, 1)
    lot = ResampledPredictions.plain(np.where((np.arange(1000) % 2 == 0)[:, None], good_P, bad_P))
    values_SP = ((lot.probability_SP >= 0.5) == LABELS_P).astype(float)
    held_SP = SCORER.held_out_SP
    definition = SCORES["balanced_accuracy"]
    gap = float(balanced_accuracy(good_P, LABELS_P) - balanced_accuracy(bad_P, LABELS_P))
    found = choice_variance(np.where(held_SP, values_SP, 0), held_SP, LABELS_P, definition)
    assert found == pytest.approx(gap**2 / 4, rel=0.35)
    same = ((always(good_P).probability_SP >= 0.5) == LABELS_P).astype(float)
    assert choice_variance(np.where(held_SP, same, 0), held_SP, LABELS_P, definition) == 0


def test_it_repeats_whatever_else_is_scored() -> None:
    models_MP = useless_models(20)
    first, again = (SCORER.score(judged(lambda counts: best_of(models_MP, counts)), "auc") for _ in range(2))
    assert first == again


def test_the_reliability_curve_is_made_of_left_out_patients() -> None:
    probability_P = np.where(LABELS_P == 1, 0.85, 0.25)
    patients_B, probability_B, true_B = SCORER.reliability(always(probability_P))
    assert patients_B.sum() == pytest.approx(60) and patients_B[8] == patients_B[2] == pytest.approx(30)
    np.testing.assert_allclose((probability_B[[2, 8]], true_B[[2, 8]]), ((0.25, 0.85), (0, 1)), atol=1e-9)
    assert SCORER.score(always(probability_P), "calibration_error").value == pytest.approx(
        float(calibration_error(probability_P, LABELS_P))
    )


def test_patients_too_few_to_leave_any_out_are_refused() -> None:
    few = np.array([0, 1, 1, 1])
    with pytest.raises(ValueError, match="some patients are in every resample"):
        HeldOutScorer(few, resample(few, 100, 0))
    HeldOutScorer(np.array([0, 0, 1, 1]), resample(np.array([0, 0, 1, 1]), 100, 0))


def test_wilson_s_interval_is_the_textbook_one() -> None:
    low, high = wilson(15 / 148, 148, 1.959964)  # Newcombe 1998, table I
    assert (round(low, 4), round(high, 4)) == (0.0624, 0.1605)
    assert wilson(0.0, 20)[0] == 0 and wilson(1.0, 20)[1] == 1


def test_an_interval_is_made_of_its_classes_wilson_intervals() -> None:
    """27 of 30 tumoral and 24 of 30 reactive patients right: the square-and-add rule, with Student's quantile."""
    probability_P = LABELS_P.astype(float)
    probability_P[np.flatnonzero(LABELS_P == 1)[:3]], probability_P[np.flatnonzero(LABELS_P == 0)[:6]] = 0, 1
    found = fixed_score(probability_P, LABELS_P, "balanced_accuracy")
    (low_1, high_1), (low_0, high_0) = wilson(0.9, 29, 2.04523), wilson(0.8, 29, 2.04523)
    assert found.low == pytest.approx(0.85 - 0.5 * np.hypot(0.9 - low_1, 0.8 - low_0), abs=1e-5)
    assert found.high == pytest.approx(0.85 + 0.5 * np.hypot(high_1 - 0.9, high_0 - 0.8), abs=1e-5)


def test_a_fixed_score_is_the_metric_s_value() -> None:
    probability_P = noisy(0.4)
    for metric, function in (("auc", auc), ("log_loss", balanced_log_loss)):
        assert fixed_score(probability_P, LABELS_P, metric).value == pytest.approx(
            float(function(probability_P, LABELS_P))
        )
    assert fixed_score(probability_P, LABELS_P, "recall", threshold=0.99).value < 0.2


def test_calls_of_patients_left_out_are_those_that_recall_and_specificity_count() -> None:
    said = always(noisy(0.3))
    for found in (
        ResampledPredictions(said.probability_SP, np.linspace(0.2, 0.8, len(COUNTS_SP))),
        ResampledPredictions.plain(said.probability_SP),
    ):
        called_P = SCORER.called(found)
        assert called_P[LABELS_P == 1].mean() == pytest.approx(SCORER.score(found, "recall").value)
        assert 1 - called_P[LABELS_P == 0].mean() == pytest.approx(SCORER.score(found, "specificity").value)
    at_PT = SCORER.called_at(said.probability_SP, np.array([0.0, 0.5, 2.0]))
    np.testing.assert_array_equal(at_PT.T, [np.ones(60), called_P, np.zeros(60)])


def test_patients_of_one_group_are_drawn_together_and_count_as_one() -> None:
    """Everybody twice, in pairs, is worth no more than everybody once."""
    labels_P = np.repeat(np.arange(60) % 2, 2)
    pair_P = np.arange(120) // 2
    counts_SP = resample(labels_P, 400, 0, pair_P)
    np.testing.assert_array_equal(counts_SP[:, ::2], counts_SP[:, 1::2])
    np.testing.assert_array_equal(counts_SP[:, ::2], resample(labels_P[::2], 400, 0))
    probability_P = noisy(0.5, 1, labels_P[::2])
    for metric in ("balanced_accuracy", "log_loss"):
        once = fixed_score(probability_P, labels_P[::2], metric)
        twice = fixed_score(np.repeat(probability_P, 2), labels_P, metric, group_P=pair_P)
        naive = fixed_score(np.repeat(probability_P, 2), labels_P, metric)
        width, of_pairs, of_patients = (found.high - found.low for found in (once, twice, naive))
        assert of_pairs == pytest.approx(width, rel=0.02)
        assert of_patients < 0.8 * width


def test_groups_of_both_classes_are_drawn_whole() -> None:
    labels_P, group_P = np.arange(90) % 2, np.arange(90) // 3
    counts_SP = resample(labels_P, 50, 0, group_P)
    assert all(len({*counts[group_P == group]}) == 1 for counts in counts_SP for group in range(30))
    assert (counts_SP.sum(axis=1) == 90).all()


def test_few_groups_do_not_stand_for_others() -> None:
    assert grouping(["a", "b", "c"] * 30) is None
    assert grouping([str(row) for row in range(30)]) is None  # everybody alone
    np.testing.assert_array_equal(grouping([f"{row // 2:02d}" for row in range(60)]), np.arange(60) // 2)
