"""Scores: luck is not praised, skill is, and other recipes are named only where they are significantly better."""

from dataclasses import replace

import numpy as np
import pytest

from lymphtune.ensembling.procedure import Procedure
from lymphtune.ensembling.recipe import all_recipes, load_recipe
from lymphtune.ensembling.score import BASELINE, ENSEMBLE, SINGLE, Comparison, compare, score
from lymphtune.ensembling.summary import better_recipes, recipes_table, summary
from lymphtune.ensembling.threshold import parse_threshold
from lymphtune.errors import InputError
from lymphtune.statistics.metrics import METRICS
from tests.ensembling.made_up import candidates
from tests.ensembling.test_procedure import procedure


@pytest.mark.parametrize("recipe", ["top", "greedy", "stack"])
def test_random_labels_are_worth_one_half_and_the_naive_score_hides_it(recipe: str) -> None:
    given = candidates(trials=150, patients=60, skill=0.0, alike=0.0)
    entry = Comparison.of(given).score(procedure(recipe))
    honest = entry.honest["balanced_accuracy"]
    assert honest.low < 0.5 < honest.high < entry.naive["balanced_accuracy"]
    assert entry.optimism > 0.1
    assert entry.honest["auc"].low < 0.5 < entry.honest["auc"].high < entry.naive["auc"]


def test_skill_is_seen_beside_baseline_and_single_trial() -> None:
    given = candidates(trials=30, patients=150, alike=0.0, skill=0.35)
    scores = score(Comparison.of(given), procedure("top", refer=0.2))
    assert list(scores.entries) == [ENSEMBLE, SINGLE, BASELINE]
    assert scores.over_single["balanced_accuracy"].difference.low > 0
    assert scores.over_single["balanced_accuracy"].better > 0.99
    assert scores.not_referred is not None
    kept, share = scores.not_referred
    assert kept.value > scores.entries[ENSEMBLE].honest["balanced_accuracy"].value and 0.7 < share < 0.9
    assert 0.8 < scores.covered.value <= 1
    table = scores.table()
    assert len(table) == 3 * len(METRICS) and (table["low"] <= table["honest"]).all()
    np.testing.assert_allclose(table["optimism"], table["naive"] - table["honest"])


def test_what_threshold_and_calibration_change_is_told() -> None:
    given = candidates(trials=12, patients=120)
    plain = score(Comparison.of(given), procedure("top"))
    assert plain.threshold_gain is None and plain.calibration_gains == {}
    told = score(Comparison.of(given), procedure("top", "temperature", "tuned"))
    assert told.threshold_gain is not None and set(told.calibration_gains) == {"log_loss", "brier"}
    assert set(told.reliability["stage"]) == {"before", "after"}
    np.testing.assert_allclose(told.reliability.groupby("stage")["patients"].sum(), 120)


def test_only_a_credibly_better_recipe_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    given = candidates(trials=30, patients=150, alike=0.0, skill=0.3)
    comparison = Comparison.of(given)
    entries = compare(comparison, Procedure(load_recipe("top")), all_recipes())
    one = comparison.score(Procedure(load_recipe("top", 1)))
    lines = better_recipes(comparison, one, entries)
    assert lines[0].startswith("--recipe ") and "top" in " ".join(lines) and "significantly better" in " ".join(lines)
    assert better_recipes(comparison, entries["top"], {"top": entries["top"]}) == []
    text = recipes_table("run", comparison, entries)
    assert [line.split()[0] for line in text.splitlines()[2:]] == [recipe.name for recipe in all_recipes()]
    assert all(len(line) <= 80 for line in [*lines, *text.splitlines()])
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, recipes_table("run", comparison, entries).splitlines())) <= 60


def test_rivals_are_judged_as_the_ensemble_is() -> None:
    """A threshold that calls almost nobody is no difference between them."""
    given = candidates(trials=12, patients=120)
    scores = score(Comparison.of(given), procedure("top", threshold="0.99"))
    assert all(entry.honest["recall"].value < 0.2 for entry in scores.entries.values())


def test_clinical_runs_have_a_table_of_recipes_too() -> None:
    given = candidates(trials=12)
    given.table["kind"], given.table["sees"] = "clinical", "clinical"
    comparison = Comparison.of(given)
    entries = compare(comparison, Procedure(load_recipe("stack")), all_recipes())
    assert set(entries) == {"greedy", "stack"} and "stack" in recipes_table("run", comparison, entries)


def test_recipes_that_a_run_has_no_trials_for_are_passed_over() -> None:
    given = candidates(trials=1)
    entries = compare(Comparison.of(given), Procedure(load_recipe("top")), all_recipes())
    assert "blend" not in entries and "top" in entries


@pytest.mark.parametrize("calibration", ["none", pytest.param("platt", marks=pytest.mark.slow)])
def test_the_summary_fits_eighty_columns(calibration: str) -> None:
    given = candidates(trials=12, patients=120)
    mine = Procedure(load_recipe("top"), procedure("top", calibration).calibration, parse_threshold("recall=0.95"), 0.1)
    scores = score(Comparison.of(given), mine)
    members = given.trials(given.chosen(mine.recipe.choice)).assign(weight=0.2)
    lines = summary(scores, mine, members, given.table, "age and lymphocyte count")
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    wanted = [
        "naive honest (95 %)",
        "optimism (BA)",
        "minus best baseline",
        "not significantly worse than the best trial",
    ]
    wanted += ["prediction sets at error rate 0.1", "referring the least certain", "threshold recall=0.95"]
    assert [words for words in wanted if words not in text] == []


def test_patients_too_few_for_an_honest_score_are_refused() -> None:
    given = candidates(patients=4)  # one of them tumoral
    with pytest.raises(
        InputError, match=r"4 scored patients: some patients are in every resample.*score more patients"
    ):
        Comparison.of(given)


def test_waiting_is_counted_in_resamples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("lymphtune.console.QUIET_SECONDS", 0.0)
    comparison = Comparison.of(candidates(trials=6, patients=40))
    score(comparison, Procedure(load_recipe("top")))
    assert "scoring: 1 of 3000, about " in capsys.readouterr().err


def test_a_group_is_drawn_or_left_out_as_one() -> None:
    """A patient that is left out tells nothing new where another of its group was learnt from."""
    given = candidates(patients=80)
    pair_P = np.arange(80) // 2
    comparison = Comparison.of(replace(given, group_P=pair_P))
    for counts_SP in (comparison.resamples.counts_SP, comparison.scorer.counts_SP):
        np.testing.assert_array_equal(counts_SP[:, ::2], counts_SP[:, 1::2])
    np.testing.assert_array_equal(comparison.scorer.group_P, pair_P)
    alone = Comparison.of(given).resamples.counts_SP
    assert (alone[:, ::2] != alone[:, 1::2]).any()
