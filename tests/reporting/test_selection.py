"""Naive and honest: every count and curve says what the scores say."""

from dataclasses import replace

import numpy as np
import pytest

from lymphtune.ensembling.procedure import asked
from lymphtune.ensembling.score import BASELINE, ENSEMBLE, SINGLE, score
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Drawing, Part, Section, Table
from lymphtune.reporting.sections import selection
from lymphtune.statistics.words import bounded, signed


@pytest.fixture(scope="module")
def found(facts: Facts) -> Section:
    return selection.section(facts)


def named(section: Section, name: str) -> Part:
    (part,) = (part for part in section.parts if isinstance(part, Drawing | Table) and part.name == name)
    return part


def test_the_dumbbells_have_naive_honest_and_optimism(facts: Facts, found: Section) -> None:
    drawing = named(found, "naive-honest")
    assert isinstance(drawing, Drawing)
    for name in (ENSEMBLE, SINGLE, BASELINE):
        entry = facts.scores.entries[name]
        naive, honest = entry.naive["balanced_accuracy"], entry.honest["balanced_accuracy"]
        assert f"naive {naive:.3f}, honest {bounded(honest)}, {signed(entry.optimism)}" in drawing.alt
    assert signed(facts.scores.entries[ENSEMBLE].optimism) in found.lead


def test_confusion_matrices_are_those_of_recall_and_specificity(facts: Facts, found: Section) -> None:
    table = named(found, "confusion")
    assert isinstance(table, Table) and table.shown is not None
    counts = table.frame.set_index(["procedure", "truly"])
    for name in (ENSEMBLE, SINGLE, BASELINE):
        entry, rows = facts.scores.entries[name], counts.loc[selection._named(facts, name)]
        for truly, metric in (("tumoral", "recall"), ("reactive", "specificity")):
            row = rows.loc[truly]
            assert row["patients"] == (facts.labels_P == (truly == "tumoral")).sum()
            assert row[f"naive_{truly}"] / row["patients"] == pytest.approx(entry.naive[metric])
            assert row[f"honest_{truly}"] / row["patients"] == pytest.approx(entry.honest[metric].value)
            for way in ("naive", "honest"):
                assert row[f"{way}_reactive"] + row[f"{way}_tumoral"] == pytest.approx(row["patients"])


def test_all_patients_are_in_the_histogram_and_the_prevalence_is_named(facts: Facts, found: Section) -> None:
    histogram, decision = named(found, "probabilities"), named(found, "decision-curve")
    assert isinstance(histogram, Drawing) and isinstance(decision, Drawing)
    for label, panel in enumerate(histogram.figure.axes):
        heights = [bar.get_height() for bar in panel.patches]  # type: ignore[attr-defined]
        expected, _ = np.histogram(facts.probability_P[facts.labels_P == label], np.linspace(0, 1, 21))
        np.testing.assert_array_equal(heights, expected)
    assert f"prevalence of {100 * facts.labels_P.mean():.0f} % tumoral" in decision.caption


def test_whoever_calls_everybody_is_worth_as_much_as_calling_everybody(facts: Facts) -> None:
    entry = facts.scores.entries[ENSEMBLE]
    sure = replace(
        entry, resampled=replace(entry.resampled, probability_SP=np.ones_like(entry.resampled.probability_SP))
    )
    given = replace(facts, scores=replace(facts.scores, entries=facts.scores.entries | {ENSEMBLE: sure}))
    (panel,) = selection._decision(given).figure.axes
    mine, _, everybody, _ = (line.get_ydata() for line in panel.lines)
    np.testing.assert_allclose(mine, everybody)


def test_calibration_is_drawn_before_and_after_where_there_is_one(facts: Facts, found: Section) -> None:
    plain = named(found, "reliability")
    assert isinstance(plain, Drawing) and "before" not in plain.alt
    procedure = replace(asked("top", top=2), calibration=asked(calibration="temperature").calibration)
    calibrated = replace(facts, procedure=procedure, scores=score(facts.recipe_scores, procedure))
    assert all(
        f"{stage} calibration (temperature)" in selection._reliability(calibrated).alt for stage in ("before", "after")
    )
