"""The honest score: choosing among useless models earns nothing, and cheating shows.

Shapes: M models, P patients, S resamples.
"""

import numpy as np
import pytest

from lymphtune.statistics.bootstrap import RESAMPLES
from lymphtune.statistics.honest import left_out_scores
from lymphtune.statistics.metrics import auc, balanced_accuracy, balanced_log_loss

LABELS_P = np.arange(60) % 2


def useless_models(models: int, seed: int = 0) -> np.ndarray:
    """Return probabilities [M, P] that know nothing of the labels."""
    return np.random.default_rng(seed).random((models, len(LABELS_P)))


def best_of(probabilities_MP: np.ndarray, counts_P: np.ndarray) -> np.ndarray:
    """Return the probabilities of the model that scores best on the patients drawn."""
    return probabilities_MP[np.argmax(balanced_accuracy(probabilities_MP, LABELS_P, counts_P))]


def test_the_best_of_many_useless_models_is_worth_nothing() -> None:
    naive, honest = [], []
    for seed in range(5):
        models_MP = useless_models(200, seed)
        naive.append(balanced_accuracy(best_of(models_MP, np.ones(len(LABELS_P))), LABELS_P))
        scores = left_out_scores(LABELS_P, {"best": lambda counts, models_MP=models_MP: best_of(models_MP, counts)})
        honest.append(scores["best"].mean())
    assert min(naive) > 0.58
    assert 0.45 < np.mean(honest) < 0.55


def test_a_procedure_that_looks_at_the_left_out_scores_higher() -> None:
    models_MP = useless_models(200)
    everybody = np.ones(len(LABELS_P))
    scores = left_out_scores(
        LABELS_P,
        {
            "honest": lambda counts: best_of(models_MP, counts),
            "cheat": lambda counts: best_of(models_MP, everybody),
            "thief": lambda counts: best_of(models_MP, (counts == 0).astype(float)),
        },
    )
    assert scores["honest"].mean() + 0.08 < scores["cheat"].mean() < scores["thief"].mean()


def test_the_score_is_of_patients_not_drawn() -> None:
    """A model that is right of drawn patients only, and one that is right of the others only."""
    scores = left_out_scores(
        LABELS_P,
        {
            "drawn": lambda counts: np.where(counts > 0, LABELS_P, 1 - LABELS_P).astype(float),
            "others": lambda counts: np.where(counts > 0, 1 - LABELS_P, LABELS_P).astype(float),
        },
    )
    assert (scores["drawn"] == 0).all() and (scores["others"] == 1).all()


def test_a_procedure_is_told_only_how_often_each_was_drawn() -> None:
    told: list[np.ndarray] = []

    def procedure(counts_P: np.ndarray) -> np.ndarray:
        told.append(counts_P.copy())
        return np.full(len(LABELS_P), 0.3)

    left_out_scores(LABELS_P, {"only": procedure})
    drawn_SP = np.array(told)
    assert drawn_SP.shape == (RESAMPLES, len(LABELS_P))
    assert (drawn_SP[:, LABELS_P == 1].sum(axis=1) == 30).all() and (drawn_SP.sum(axis=1) == 60).all()


def test_a_fixed_model_scores_what_it_scores() -> None:
    right = np.random.default_rng(3).random(len(LABELS_P)) < 0.8
    probabilities_P = np.where(right, LABELS_P, 1 - LABELS_P) * 0.6 + 0.2
    for metric in (balanced_accuracy, balanced_log_loss, auc):
        scores = left_out_scores(LABELS_P, {"fixed": lambda _: probabilities_P}, metric)
        assert scores["fixed"].mean() == pytest.approx(float(metric(probabilities_P, LABELS_P)), abs=0.015)


def test_it_repeats_and_all_procedures_meet_the_same_resamples() -> None:
    models_MP = useless_models(20)
    chosen = {name: (lambda counts: best_of(models_MP, counts)) for name in ("one", "two")}
    first, again = left_out_scores(LABELS_P, chosen), left_out_scores(LABELS_P, chosen)
    other = left_out_scores(LABELS_P, chosen, seed=1)
    np.testing.assert_array_equal(first["one"], first["two"])
    np.testing.assert_array_equal(first["one"], again["one"])
    assert (first["one"] != other["one"]).any()
    alone = left_out_scores(LABELS_P, {"two": chosen["two"]})
    np.testing.assert_array_equal(first["two"], alone["two"])


def test_resamples_that_leave_out_one_class_only_do_not_count() -> None:
    few = np.array([0, 0, 1, 1])
    scores = left_out_scores(few, {"fixed": lambda _: few.astype(float)})
    assert (scores["fixed"] == 1).all() and 200 < len(scores["fixed"]) < 300  # a quarter of them
    with pytest.raises(ValueError, match="no resample leaves out patients of both classes; more patients are needed"):
        left_out_scores(np.array([0, 1]), {"fixed": lambda _: np.array([0.0, 1.0])})
