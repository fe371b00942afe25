"""A trial without Ray: what is learnt from whom, that it repeats, and that what is saved says the same.

Shapes: R repeats, P patients of the cohort, B patients of a step, M cells of all of them, S side of the crop.
"""

import itertools
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lymphtune import registry
from lymphtune.cohort import Cohort
from lymphtune.config import Configuration, Data, configuration
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.statistics.metrics import balanced_log_loss
from lymphtune.training import lockstep, network
from lymphtune.training.batches import Bags
from lymphtune.training.clinical import ClinicalMember
from lymphtune.training.loading import load_pipeline, predict_with
from lymphtune.training.lockstep import Diverged, EpochResult, Protocol, fold_models, member_name, train
from lymphtune.training.precision import Precision
from tests.training.networks import CPU, FOLDS, changed, clinical, probabilities, protocol, small, trained


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, set[int]]]:
    """The passes over patients in their order: `training` or `evaluation`, and whose rows."""
    passes: list[tuple[str, set[int]]] = []

    def watch(word: str) -> None:
        real = getattr(Bags, word)

        def watched(self: Bags, *given: Any) -> Iterator[Any]:
            batches = list(real(self, *given))
            passes.append((word, {row for batch in batches for row in batch.rows}))
            return iter(batches)

        monkeypatch.setattr(Bags, word, watched)

    watch("training")
    watch("evaluation")
    return passes


# ---- who is learnt from


@pytest.mark.parametrize("encoder", ["vanilla", {"resnet": {"filters": 8}}], ids=["vanilla", "resnet"])
@pytest.mark.parametrize(("folds", "repeats"), [(FOLDS, 1), (2, 2), (1, 1)])
def test_no_patient_has_two_roles(
    tiny_cohort: Cohort, seen: list[tuple[str, set[int]]], folds: int, repeats: int, encoder: Any
) -> None:
    """A model looks at its training patients until it judges those held out; at nobody else, ever."""
    wanted = protocol(tiny_cohort, epochs=2, folds=folds, repeats=repeats)
    list(train(small(encoder=encoder), tiny_cohort, wanted))
    labelled = set(tiny_cohort.labelled.tolist())
    models = fold_models(wanted.folds_RP)
    assert len(models) == folds * repeats
    learnt: list[set[int]] = []
    judges = iter(models * 2)
    for word, rows in seen:
        if word == "training":
            learnt.append(rows)
            continue
        repeat, fold = next(judges)
        assert rows == set(np.flatnonzero(wanted.folds_RP[repeat] == fold).tolist()) != set()
        assert set().union(*learnt) == labelled - rows
        learnt.clear()
    assert not learnt and next(judges, None) is None


@pytest.mark.parametrize("chosen", [small(), clinical("logistic")], ids=["network", "clinical"])
@pytest.mark.parametrize(("folds", "repeats"), [(FOLDS, 2), (1, 1)])
def test_who_is_never_held_out_has_no_probability(
    tiny_cohort: Cohort, chosen: Configuration, folds: int, repeats: int
) -> None:
    wanted = protocol(tiny_cohort, epochs=1, folds=folds, repeats=repeats)
    (result,) = train(chosen, tiny_cohort, wanted)
    assert result.probabilities_RP.shape == wanted.folds_RP.shape
    np.testing.assert_array_equal(np.isnan(result.probabilities_RP), wanted.folds_RP == -1)
    assert np.isnan(result.gates_RP).all() and result.gates_RP.shape == wanted.folds_RP.shape  # neither has a gate
    held_out = result.probabilities_RP[wanted.folds_RP >= 0]
    assert ((held_out > 0) & (held_out < 1)).all()


@pytest.mark.parametrize("word", ["network", *registry.clinical_models.words()])
def test_a_patient_s_own_label_never_reaches_its_probability(tiny_cohort: Cohort, word: str) -> None:
    chosen = small() if word == "network" else clinical(word)
    first = trained(chosen, tiny_cohort)[-1].probabilities_RP[0]
    folds_P = protocol(tiny_cohort).folds_RP
    for row in tiny_cohort.labelled[:2]:
        flipped = changed(tiny_cohort, row, label=1 - tiny_cohort.labels[row])
        other = list(train(chosen, flipped, Protocol(folds_P, 2, 0)))[-1].probabilities_RP[0]
        assert other[row] == first[row]
        fold_mates = folds_P[0] == folds_P[0, row]
        np.testing.assert_array_equal(other[fold_mates], first[fold_mates])  # their model never saw the label
        assert (other[(folds_P[0] >= 0) & ~fold_mates] != first[(folds_P[0] >= 0) & ~fold_mates]).any()


def saved_scales(results: Iterator[EpochResult], folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and sd of the attributes in every weights file."""
    next(results).save(folder)
    states = {path.stem: load_file(path) for path in folder.iterdir()}
    return {name: (state["attribute_mean_A"], state["attribute_sd_A"]) for name, state in states.items()}


def test_attributes_are_scaled_by_training_patients_only(tiny_cohort: Cohort, tmp_path: Path) -> None:
    wanted = protocol(tiny_cohort, epochs=1)
    row = int(tiny_cohort.labelled[0])
    old = changed(tiny_cohort, row, age_years=1000.0, lymphocytes_g_per_l=1e6)
    first = saved_scales(train(small(), tiny_cohort, wanted), tmp_path / "first")
    other = saved_scales(train(small(), old, wanted), tmp_path / "other")
    assert len(first) == FOLDS
    for repeat, fold in fold_models(wanted.folds_RP):
        name = member_name(repeat, fold)
        same = [a.equal(b) for a, b in zip(first[name], other[name], strict=True)]
        assert same == ([True, True] if wanted.folds_RP[0, row] == fold else [False, False])
        rows = np.setdiff1d(tiny_cohort.labelled, np.flatnonzero(wanted.folds_RP[0] == fold))
        np.testing.assert_allclose(first[name][0], tiny_cohort.attributes_PA[rows].mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(first[name][1], tiny_cohort.attributes_PA[rows].std(axis=0), rtol=1e-4)


@pytest.mark.parametrize("word", ["network", *registry.clinical_models.words()])
def test_a_missing_value_is_imputed_by_training_patients_only(tiny_cohort: Cohort, word: str) -> None:
    """Of two patients of one fold the one has no age; what its fold model takes for it knows nothing of the other's."""
    chosen, folds_RP = small() if word == "network" else clinical(word), protocol(tiny_cohort).folds_RP
    mates = np.flatnonzero(folds_RP[0] == folds_RP[0, tiny_cohort.labelled[0]])
    without = changed(tiny_cohort, int(mates[0]), age_years=np.nan)
    other = changed(without, int(mates[1]), age_years=1000.0)
    first, again = (next(train(chosen, cohort, Protocol(folds_RP, 1, 0))) for cohort in (without, other))
    assert np.isfinite(first.probabilities_RP[0, mates]).all()
    assert first.probabilities_RP[0, mates[0]] == again.probabilities_RP[0, mates[0]]


@pytest.mark.parametrize("word", ["network", *registry.clinical_models.words()])
def test_patients_to_predict_change_nothing(tiny_cohort: Cohort, word: str) -> None:
    chosen = small() if word == "network" else clinical(word)
    other = changed(tiny_cohort, int(tiny_cohort.to_predict[0]), age_years=1.0, lymphocytes_g_per_l=999.0)
    first, again = (trained(chosen, cohort, epochs=1) for cohort in (tiny_cohort, other))
    np.testing.assert_array_equal(probabilities(first), probabilities(again))


# ---- learning


def test_a_network_learns_four_patients_by_heart(tiny_cohort: Cohort) -> None:
    labels = tiny_cohort.labels
    four = np.concatenate([np.flatnonzero(labels == label)[:2] for label in (0, 1)])
    patients = tiny_cohort.patients.copy()
    patients.loc[~patients.index.isin(patients.index[four]), "label"] = -1
    held_out = np.flatnonzero(labels == 1)[2:3]
    patients.loc[patients.index[held_out], "label"] = 1
    folds_RP = np.full((1, len(labels)), -1)
    folds_RP[0, held_out] = 0
    cohort = replace(tiny_cohort, patients=patients)
    chosen = small("none", {"resnet": {"filters": 8}}, learning_rate=1e-2, schedule="constant")
    chosen = chosen.model_copy(update={"data": Data(crop_px=112, bag_size=None)})  # the cells' sizes are seen
    losses = [result.train_loss for result in train(chosen, cohort, Protocol(folds_RP, 30, 0))]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_a_seed_gives_the_same_bits_and_another_others(tiny_cohort: Cohort) -> None:
    first, again, other = (trained(small(), tiny_cohort, repeats=2, seed=seed) for seed in (5, 5, 6))
    assert [result.epoch for result in first] == [1, 2]
    np.testing.assert_array_equal(probabilities(first), probabilities(again))
    assert [result.train_loss for result in first] == [result.train_loss for result in again]
    judged = ~np.isnan(probabilities(first))
    assert (probabilities(first) != probabilities(other))[judged].all()
    assert (probabilities(first)[:, 0] != probabilities(first)[:, 1])[judged[:, 0]].all()  # repeats differ in seed


def test_the_training_loss_is_told_with_its_spread_over_the_fold_models(
    tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    real = network.NetworkMember.train_epoch

    def fake_train_epoch(member: network.NetworkMember, epoch: int) -> float:
        losses.append(real(member, epoch))
        return losses[-1]

    monkeypatch.setattr(network.NetworkMember, "train_epoch", fake_train_epoch)
    (result,) = trained(small(), tiny_cohort, repeats=2, epochs=1)
    assert len(losses) == 2 * FOLDS
    assert result.train_loss == pytest.approx(np.mean(losses))
    assert result.train_loss_sd == pytest.approx(np.std(losses, ddof=1)) and result.train_loss_sd > 0
    (alone,) = train(small(), tiny_cohort, protocol(tiny_cohort, epochs=1, folds=1))
    assert alone.train_loss_sd == 0


def test_what_the_caller_does_between_epochs_changes_nothing(tiny_cohort: Cohort, tmp_path: Path) -> None:
    plain = trained(small(), tiny_cohort, epochs=3)
    saving = []
    for result in train(small(), tiny_cohort, protocol(tiny_cohort, epochs=3)):
        result.save(tmp_path / str(result.epoch))
        np.random.rand()
        torch.rand(3)
        saving.append(result)
    np.testing.assert_array_equal(probabilities(plain), probabilities(saving))
    results = train(small(), tiny_cohort, protocol(tiny_cohort, epochs=3))
    part = list(itertools.islice(results, 2))  # and then no more is asked for
    part[-1].save(tmp_path / "part")
    results.close()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(probabilities(plain)[:2], probabilities(part))
    for path in (tmp_path / "part").iterdir():
        early, late = load_file(path), load_file(tmp_path / "2" / path.name)
        assert all(value.equal(late[name]) for name, value in early.items())


@pytest.mark.parametrize(("average", "bag_size"), [(0, 3), (0.9, 3), (0.9, "fixed:2")])
def test_saved_networks_repeat_their_out_of_fold_probabilities(
    tiny_cohort: Cohort, tmp_path: Path, average: float, bag_size: Any
) -> None:
    chosen = small(encoder={"resnet": {"filters": 8}}, moving_average=average, data={"bag_size": bag_size})
    wanted = protocol(tiny_cohort, repeats=2)
    for result in train(chosen, tiny_cohort, wanted):
        result.save(tmp_path / str(result.epoch))
        models = fold_models(wanted.folds_RP)
        assert len(list((tmp_path / str(result.epoch)).iterdir())) == len(models) == 2 * FOLDS
        for repeat, fold in models:
            path = tmp_path / str(result.epoch) / f"{member_name(repeat, fold)}.safetensors"
            held_out = np.flatnonzero(wanted.folds_RP[repeat] == fold)
            again = predict_with(path, chosen, tiny_cohort, held_out).probability_P
            np.testing.assert_allclose(again, result.probabilities_RP[repeat, held_out], rtol=0, atol=1e-6)


@pytest.mark.parametrize("word", registry.clinical_models.words())
def test_a_clinical_model_has_one_epoch_and_is_saved_whole(tiny_cohort: Cohort, tmp_path: Path, word: str) -> None:
    chosen, wanted = clinical(word), protocol(tiny_cohort, epochs=7)
    (result,) = train(chosen, tiny_cohort, wanted)
    assert result.epoch == 1
    judged = wanted.folds_RP[0] >= 0
    pooled = balanced_log_loss(result.probabilities_RP[0, judged], tiny_cohort.labels[judged])
    assert result.train_loss == pytest.approx(pooled)
    result.save(tmp_path)
    for repeat, fold in fold_models(wanted.folds_RP):
        path = tmp_path / f"{member_name(repeat, fold)}.skops"
        held_out = np.flatnonzero(wanted.folds_RP[repeat] == fold)
        np.testing.assert_array_equal(
            predict_with(path, chosen, tiny_cohort, held_out).probability_P, result.probabilities_RP[repeat, held_out]
        )
        rows = np.setdiff1d(tiny_cohort.labelled, held_out)
        scaled_by = load_pipeline(path).named_steps["scale"].mean_
        np.testing.assert_allclose(scaled_by, tiny_cohort.attributes_PA[rows].mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("word", registry.clinical_models.words())
def test_a_clinical_model_puts_a_missing_value_at_the_mean_of_its_training_patients(word: str) -> None:
    rng = np.random.default_rng(0)
    given_PA = rng.normal(50, 10, (30, 3))
    given_PA[::4, 1], given_PA[:, 2] = np.nan, np.nan
    member = ClinicalMember(configuration({"clinical": word}, "test"), given_PA, np.arange(30) % 2, 0)
    at_mean_PA = np.where(np.isnan(given_PA), [0, np.nanmean(given_PA[:, 1]), 0], given_PA)
    np.testing.assert_allclose(member.predict(given_PA), member.predict(at_mean_PA), atol=1e-9)
    assert np.isfinite(member.predict(given_PA)).all()


def test_the_best_epoch_s_weights_are_saved_where_asked_for(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, wanted = small(checkpoint="best", learning_rate=3e-2), protocol(tiny_cohort, epochs=4)
    scores = {1: 0.7, 2: 0.3, 3: 0.5, 4: 0.4}
    remaining = iter(scores.values())
    monkeypatch.setattr(lockstep, "pooled_log_loss", lambda *_: next(remaining))
    results = []
    for result in train(chosen, tiny_cohort, wanted):
        result.save(tmp_path / str(result.epoch))
        results.append(result)
    for saved_after, best in ((1, 1), (2, 2), (3, 2), (4, 2)):
        for repeat, fold in fold_models(wanted.folds_RP):
            path = tmp_path / str(saved_after) / f"{member_name(repeat, fold)}.safetensors"
            held_out = np.flatnonzero(wanted.folds_RP[repeat] == fold)
            again = predict_with(path, chosen, tiny_cohort, held_out).probability_P
            np.testing.assert_allclose(again, results[best - 1].probabilities_RP[repeat, held_out], rtol=0, atol=1e-6)


def test_the_score_that_picks_an_epoch_is_the_balanced_log_loss_over_repeats(tiny_cohort: Cohort) -> None:
    probabilities_RP = np.array([[0.2, 0.9, np.nan, 0.4], [0.4, 0.7, np.nan, 0.6]])
    labels_P = np.array([0, 1, -1, 1])
    expected = balanced_log_loss(np.array([0.3, 0.8, 0.5]), np.array([0, 1, 1]))
    assert lockstep.pooled_log_loss(probabilities_RP, labels_P) == pytest.approx(float(expected))


# ---- what goes wrong


def test_a_loss_that_is_no_number_is_a_divergence(tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "bag_loss", lambda probability_B, *_: probability_B.sum() * torch.nan)
    with pytest.raises(Diverged, match="loss is nan in epoch 1"):
        trained(small(), tiny_cohort)


@pytest.mark.parametrize("error", [Diverged, torch.OutOfMemoryError])
def test_who_tells_of_a_failure_holds_no_network(
    tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """On a GPU that others share its memory would be held as long."""
    made: list[weakref.ref[Any]] = []

    class Watched(lockstep.Bags):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(weakref.ref(self))

    def fail(*_: Any) -> None:
        raise error("it failed")

    monkeypatch.setattr(lockstep, "Bags", Watched)
    monkeypatch.setattr(network.NetworkMember, "close_epoch", fail)
    with pytest.raises(error, match="it failed"):
        try:
            trained(small(head="linear"), tiny_cohort, epochs=1)
        finally:
            assert [reference() for reference in made] == [None]


def test_the_loss_of_no_number_is_no_number() -> None:
    assert network.bag_loss(torch.tensor([torch.nan, 0.5]), torch.tensor([0.0, 1.0]), (1.0, 1.0)).isnan()


def test_weights_that_explode_are_a_divergence(tiny_cohort: Cohort) -> None:
    wild = small(head="linear", optimiser="sgd", learning_rate=10.0, schedule="constant", weight_decay=1.0)
    with pytest.raises(Diverged, match=r"is (nan|not a number) in epoch"):
        trained(wild, tiny_cohort, epochs=30)


def test_divergence_in_one_fold_leaves_no_result(tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = network.NetworkMember.predict, itertools.count()

    def predict(self: network.NetworkMember, rows: np.ndarray) -> network.Prediction:
        prediction = real(self, rows)
        return prediction._replace(probability_P=prediction.probability_P * (np.nan if next(calls) == FOLDS + 1 else 1))

    monkeypatch.setattr(network.NetworkMember, "predict", predict)
    results = train(small(), tiny_cohort, protocol(tiny_cohort))
    assert next(results).epoch == 1
    with pytest.raises(Diverged, match="a probability is not a number in epoch 2"):
        next(results)


# ---- the loss, the average, the learning rate


def test_the_loss_weighs_both_classes_alike(tiny_cohort: Cohort) -> None:
    labels = torch.tensor([1.0, 1.0, 1.0, 0.0])
    probability = torch.tensor([0.9, 0.8, 0.7, 0.4])
    weights = network._class_weights(labels.numpy(), "balanced")
    expected = balanced_log_loss(probability.numpy(), labels.numpy())
    assert float(network.bag_loss(probability, labels, weights)) == pytest.approx(float(expected), rel=1e-5)
    assert network._class_weights(labels.numpy(), "none") == (1.0, 1.0)
    certain = network.bag_loss(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), (1.0, 1.0))
    assert torch.isfinite(certain) and certain > 10


def test_the_average_is_what_judges_and_is_kept(tiny_cohort: Cohort) -> None:
    chosen = small(moving_average=0.98, learning_rate=1e-2)
    bags = Bags(tiny_cohort, chosen.data, CPU)
    for decay, alike in ((0.98, False), (0.0, True)):
        chosen = small(moving_average=decay, learning_rate=1e-2)
        member = network.NetworkMember(chosen, bags, tiny_cohort.labelled, 2, [0, 0, 0])
        member.train_epoch(1)
        live, kept = member.live.state_dict(), member.average.model.state_dict()
        assert all(kept[name].equal(live[name]) for name in kept) == alike
        prediction = network.predict(member.average.model, bags, tiny_cohort.labelled, member.precision)
        np.testing.assert_array_equal(member.predict(tiny_cohort.labelled).probability_P, prediction.probability_P)
        assert all(value.equal(kept[name]) for name, value in member.state().items())


def rates(schedule: Any, epochs: int, steps: int = 3, start: float = 5e-4) -> np.ndarray:
    """Return the learning rate of every step [epochs, steps]."""
    part = configuration(
        {"model": {"encoder": "vanilla"}, "training": {"schedule": schedule}}, "test"
    ).training.schedule  # type: ignore[union-attr]
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], start)
    stepped = registry.schedules[part.word].build(optimiser, steps, epochs, part.options)
    taken = []
    for _ in range(epochs * steps):
        taken.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        stepped.step()
    taken.append(optimiser.param_groups[0]["lr"])  # a trial reports it after its last step
    assert np.isfinite(taken).all() and min(taken) >= 0 and max(taken) <= start * 1.000001
    return np.array(taken[:-1]).reshape(epochs, steps)


def test_constant_stays() -> None:
    assert (rates("constant", 60) == 5e-4).all()


def test_study_step_steps_where_the_study_did() -> None:
    given = rates("study_step", 60)
    np.testing.assert_allclose(given[:10], 5e-4)
    np.testing.assert_allclose(given[10:50], 5e-5)
    np.testing.assert_allclose(given[50:], 5e-6)
    np.testing.assert_allclose(rates({"study_step": {"after_epochs": [1], "factor": 0.5}}, 2)[:, 0], [5e-4, 2.5e-4])


def test_cosine_falls_to_nothing() -> None:
    given = rates("cosine", 20).ravel()
    assert given[0] == 5e-4 and (np.diff(given) < 0).all() and given[-1] < 1e-6
    assert given[30] == pytest.approx(2.5e-4)


def test_one_cycle_rises_then_falls_to_nothing() -> None:
    given = rates("one_cycle", 20).ravel()
    assert given[0] == pytest.approx(5e-4 / 25)
    assert given.max() == pytest.approx(5e-4, rel=0.01) and 15 <= given.argmax() <= 19
    assert (np.diff(given[: given.argmax() + 1]) > 0).all() and (np.diff(given[given.argmax() :]) < 0).all()
    assert given[-1] < 5e-6
    early = rates({"one_cycle": {"rising": 0.1}}, 20).ravel()
    assert early.argmax() < given.argmax()


@pytest.mark.parametrize("schedule", registry.schedules.words())
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (1, 3), (2, 1), (3, 3), (7, 1)])
def test_no_schedule_fails_however_short_the_training(schedule: str, epochs: int, steps: int) -> None:
    rates(schedule, epochs, steps)


ROUND = [(0.1, 9), (0.25, 3), (0.5, 1)]  # rising * (steps + 1) == 1


@pytest.mark.parametrize(("rising", "steps"), ROUND)
def test_one_cycle_may_rise_for_any_share_of_the_steps(rising: float, steps: int) -> None:
    rates({"one_cycle": {"rising": rising}}, 1, steps)


def test_a_trial_reports_the_rate_it_has_come_to(tiny_cohort: Cohort) -> None:
    chosen = small(schedule={"study_step": {"after_epochs": [1], "factor": 0.1}}, learning_rate=1e-3)
    assert [result.learning_rate for result in trained(chosen, tiny_cohort)] == pytest.approx([1e-4, 1e-4])


# ---- what a network sees


def test_a_patient_is_judged_alike_alone_and_in_company(tiny_cohort: Cohort) -> None:
    chosen = small(encoder={"resnet": {"filters": 8}}, learning_rate=1e-2)
    bags = Bags(tiny_cohort, chosen.data, CPU)
    member = network.NetworkMember(chosen, bags, tiny_cohort.labelled, 1, [0, 0, 0])
    member.train_epoch(1)
    rows = np.arange(len(tiny_cohort.patients))
    together = member.predict(rows).probability_P
    np.testing.assert_array_equal(member.predict(rows).probability_P, together)
    alone = [member.predict(rows[[row]]).probability_P[0] for row in rows]
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-6)
    np.testing.assert_allclose(member.predict(rows[::-1]).probability_P, together[::-1], rtol=0, atol=1e-6)


def test_bfloat16_gives_probabilities_close_to_float32(tiny_cohort: Cohort) -> None:
    chosen = small(encoder={"resnet": {"filters": 8}})
    model = BagClassifier(chosen)
    bags = Bags(tiny_cohort, chosen.data, CPU)
    model.fit_attributes(bags.attributes_PA)
    exact, rough = (
        network.predict(model, bags, tiny_cohort.labelled, Precision(precision)).probability_P
        for precision in ("float32", "bfloat16")
    )
    assert exact.dtype == rough.dtype == np.float64
    np.testing.assert_allclose(rough, exact, atol=0.03)
    assert (rough != exact).any()


def test_nobody_to_predict_is_no_error(tiny_cohort: Cohort) -> None:
    chosen = small()
    bags = Bags(tiny_cohort, chosen.data, CPU)
    prediction = network.predict(BagClassifier(chosen), bags, np.array([], dtype=int), Precision())
    assert prediction.probability_P.shape == prediction.gate_P.shape == (0,)
