"""What every combiner promises, whichever it is; and what greedy and stack promise beyond.

Shapes: M members, P patients.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphtune.config import parse_part
from lymphtune.errors import InputError
from lymphtune.registry import combiners
from lymphtune.statistics.metrics import balanced_log_loss

WORDS = combiners.words()


def built(word: str, **options: Any) -> Any:
    part = parse_part(combiners, {word: options}, word)
    return combiners[word].build(part.options)


def cohort(members: int, seed: int, patients: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return out-of-fold probabilities [M, P], some better than others, and labels [P]."""
    rng = np.random.default_rng(seed)
    labels_P = np.arange(patients) % 3 % 2
    skill_M = rng.uniform(0, 0.6, members)
    noise_MP = rng.uniform(0, 1, (members, patients))
    oof_MP = skill_M[:, None] * labels_P + (1 - skill_M[:, None]) * noise_MP
    return np.clip(oof_MP.round(3), 0, 1), labels_P


@pytest.mark.parametrize("word", WORDS)
@settings(deadline=None, max_examples=25)
@given(members=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_members_may_come_in_any_order(word: str, members: int, seed: int) -> None:
    oof_MP, labels_P = cohort(members, seed)
    new_MP = np.random.default_rng(seed).uniform(0, 1, (members, 15))
    probability_P = built(word).fit(oof_MP, labels_P).predict_proba(new_MP)
    assert probability_P.shape == (15,) and (probability_P >= 0).all() and (probability_P <= 1).all()
    order = np.random.default_rng(seed).permutation(members)
    again_P = built(word).fit(oof_MP[order], labels_P).predict_proba(new_MP[order])
    np.testing.assert_allclose(again_P, probability_P, atol=2e-4 if word == "stack" else 1e-12)


@pytest.mark.parametrize("word", WORDS)
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32))
def test_of_one_member_comes_that_member(word: str, seed: int) -> None:
    oof_MP, labels_P = cohort(1, seed)
    new_MP = np.random.default_rng(seed).uniform(0, 1, (1, 15))
    fitted = built(word).fit(oof_MP, labels_P)
    np.testing.assert_allclose(fitted.predict_proba(new_MP), new_MP[0], atol=1e-6)
    np.testing.assert_allclose(fitted.predict_proba(oof_MP), oof_MP[0], atol=1.1e-6)


@pytest.mark.parametrize("word", WORDS)
def test_twins_say_what_one_of_them_says(word: str) -> None:
    oof_MP, labels_P = cohort(1, 3)
    twins_MP = np.repeat(oof_MP, 4, axis=0)
    probability_P = built(word).fit(twins_MP, labels_P).predict_proba(twins_MP)
    np.testing.assert_allclose(probability_P, oof_MP[0], atol=1.1e-6)


@pytest.mark.parametrize("word", WORDS)
def test_all_that_is_learnt_is_arrays_that_end_in_an_underscore(word: str) -> None:
    oof_MP, labels_P = cohort(5, 1)
    fitted, bare = built(word).fit(oof_MP, labels_P), built(word)
    learnt = {name: value for name, value in vars(fitted).items() if name.endswith("_")}
    assert all(isinstance(value, np.ndarray) for value in learnt.values())
    vars(bare).update(learnt)
    np.testing.assert_array_equal(bare.predict_proba(oof_MP), fitted.predict_proba(oof_MP))


@pytest.mark.parametrize("word", WORDS)
def test_it_is_the_same_every_time(word: str) -> None:
    oof_MP, labels_P = cohort(8, 2)
    first, second = (built(word).fit(oof_MP, labels_P).predict_proba(oof_MP) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@settings(deadline=None, max_examples=60)
@given(members=st.integers(1, 12), seed=st.integers(0, 2**32), start=st.integers(1, 6))
def test_greedy_is_never_worse_than_its_start(members: int, seed: int, start: int) -> None:
    oof_MP, labels_P = cohort(members, seed)
    fitted = built("greedy", start=start, steps=4, bags=3).fit(oof_MP, labels_P)
    best_M = np.argsort(balanced_log_loss(oof_MP, labels_P), kind="stable")[:start]
    start_loss = balanced_log_loss(oof_MP[best_M].mean(axis=0), labels_P)
    assert balanced_log_loss(fitted.predict_proba(oof_MP), labels_P) <= start_loss + 1e-9
    assert fitted.weights_M_.min() >= 0 and fitted.weights_M_.sum() == pytest.approx(1)


def test_greedy_takes_the_member_that_knows() -> None:
    oof_MP, labels_P = cohort(6, 4)
    oof_MP[3] = np.where(labels_P == 1, 0.97, 0.03)
    weights_M = built("greedy", start=1, steps=5, bags=1, fraction=1.0).fit(oof_MP, labels_P).weights_M_
    assert np.argmax(weights_M) == 3 and weights_M[3] > 0.8


def test_greedy_adds_the_member_that_makes_up_for_the_best() -> None:
    labels_P = np.array([0, 0, 1, 1] * 5)
    one_P, other_P = np.tile([0.1, 0.6, 0.9, 0.45], 5), np.tile([0.6, 0.1, 0.4, 0.9], 5)
    weights_M = (
        built("greedy", start=1, steps=3, bags=1, fraction=1.0).fit(np.array([one_P, other_P]), labels_P).weights_M_
    )
    np.testing.assert_allclose(weights_M, 0.5)


def test_stack_leaves_a_liar_out_and_a_strong_ridge_makes_all_equal() -> None:
    oof_MP, labels_P = cohort(3, 5)
    oof_MP[0] = np.where(labels_P == 1, 0.05, 0.95)
    weights_M = built("stack", ridge=0.01).fit(oof_MP, labels_P).logit_weights_M_
    assert weights_M[0] == pytest.approx(0, abs=1e-6) and weights_M.sum() == pytest.approx(1)
    np.testing.assert_allclose(built("stack", ridge=1000.0).fit(oof_MP, labels_P).logit_weights_M_, 1 / 3, atol=1e-2)


def test_stack_finds_the_best_weights() -> None:
    """No other weights on a fine grid have a lower loss with the ridge in it."""
    oof_MP, labels_P = cohort(2, 6)
    share = built("stack", ridge=0.02).fit(oof_MP, labels_P).logit_weights_M_[0]
    logit_MP = np.log(np.clip(oof_MP, 1e-6, 1 - 1e-6) / (1 - np.clip(oof_MP, 1e-6, 1 - 1e-6)))

    def loss(w: float) -> float:
        probability_P = 1 / (1 + np.exp(-(w * logit_MP[0] + (1 - w) * logit_MP[1])))
        return float(balanced_log_loss(probability_P, labels_P)) + 0.02 * 2 * 2 * (w - 0.5) ** 2

    assert loss(share) <= min(loss(w) for w in np.linspace(0, 1, 401)) + 1e-5


def test_stack_finds_the_best_of_all_weights_without_a_sign() -> None:
    """A liar's weight is 0, and the others are what is best then, not what was best with the liar turned round."""
    oof_MP, labels_P = cohort(3, 7)
    oof_MP[0] = np.clip(1 - oof_MP[1] + np.random.default_rng(0).normal(0, 0.1, 40), 0.02, 0.98)
    logit_MP = np.log(np.clip(oof_MP, 1e-6, 1 - 1e-6) / (1 - np.clip(oof_MP, 1e-6, 1 - 1e-6)))

    def loss(weights_M: np.ndarray) -> float:
        probability_P = 1 / (1 + np.exp(-(weights_M @ logit_MP)))
        return float(balanced_log_loss(probability_P, labels_P)) + 0.005 * 3 * float(((weights_M - 1 / 3) ** 2).sum())

    steps = np.linspace(0, 1, 61)
    grid = [np.array([a, b, 1 - a - b]) for a in steps for b in steps if a + b <= 1]
    found = built("stack", ridge=0.005).fit(oof_MP, labels_P).logit_weights_M_
    assert loss(found) <= min(map(loss, grid)) + 1e-4


def test_rank_mean_gives_members_of_other_scales_the_same_say() -> None:
    rng = np.random.default_rng(0)
    one_P, other_P = rng.uniform(0, 1, 200), rng.uniform(0, 1, 200)
    labels_P = (one_P + other_P > 1).astype(int)
    even_MP, squeezed_MP = np.array([one_P, other_P]), np.array([one_P, 0.45 + other_P / 10])
    even_P = built("rank_mean").fit(even_MP, labels_P).predict_proba(even_MP)
    squeezed_P = built("rank_mean").fit(squeezed_MP, labels_P).predict_proba(squeezed_MP)
    np.testing.assert_array_equal(np.argsort(even_P), np.argsort(squeezed_P))


@pytest.mark.parametrize(
    ("word", "options", "message"),
    [
        ("greedy", {"bags": 0}, "start and bags from 1"),
        ("greedy", {"bags": 10**9}, "to 1000"),
        ("stack", {"ridge": 1e308}, "a ridge from 0 to 1e6"),
        ("greedy", {"fraction": 1.5}, "fraction above 0 and at most 1"),
        ("stack", {"ridge": -1.0}, "a ridge from 0"),
    ],
)
def test_options_that_cannot_be_are_refused(word: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        built(word, **options)
