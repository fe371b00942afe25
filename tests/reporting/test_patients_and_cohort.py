"""The sections on patients and on the cohort, of a finished run with an ensemble of networks."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lymphtune
from lymphtune.cohort.attributes import Attribute
from lymphtune.config import Configuration
from lymphtune.reporting.drawing import styled
from lymphtune.reporting.facts import Facts, gather
from lymphtune.reporting.parts import Block, Drawing, Note, Part, Section, Table
from lymphtune.reporting.sections import cohort as cohort_section
from lymphtune.reporting.sections import patients
from lymphtune.runs.run import Run
from lymphtune.shortcuts.audit import ShortcutAudit
from lymphtune.statistics.metrics import log_losses


@pytest.fixture(scope="module")
def facts(searched: Run, tmp_path_factory: pytest.TempPathFactory) -> Facts:
    own = Run(Path(shutil.copytree(searched.path, tmp_path_factory.mktemp("runs") / "own")))
    lymphtune.ensemble(run=own.path, top=2, source="networks")
    return gather(own, None, None, True)


@pytest.fixture(scope="module")
def shown(facts: Facts) -> Section:
    with styled():
        return patients.section(facts)


def of_kind(section: Section | Sequence[Part], kind: type) -> list:
    parts = section.parts if isinstance(section, Section) else section
    return [part for part in parts if isinstance(part, kind)]


def test_patients_come_hardest_first_with_all_that_may_say_why(facts: Facts) -> None:
    table = patients.scored_table(facts)
    assert sorted(table["patient"]) == sorted(facts.candidates.patients)
    assert table["log_loss"].is_monotonic_decreasing
    for row in table.itertuples():
        place = facts.candidates.patients.index(row.patient)
        known = facts.cohort.patients.iloc[row.row]
        assert known["patient"] == row.patient and known["label"] == row.label == facts.labels_P[place]
        assert (round(known["age_years"], 1), known["n_cells"]) == (row.age_years, row.n_cells)
        members_N = facts.members_NP[:, place]
        assert row.probability == facts.probability_P[place] and row.spread == pytest.approx(members_N.std())
        assert row.log_loss == pytest.approx(float(log_losses(row.probability, np.array(row.label))))


def test_the_gate_is_that_of_the_members_that_have_one(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter([0.2, np.nan])

    def oof(path: Path, filters: list) -> pd.DataFrame:
        assert filters[0][:2] == ("epoch", "==")
        names = facts.candidates.patients
        value = next(calls)
        return pd.DataFrame({"patient": names * 2, "gate": [value] * len(names) + [value + 0.2] * len(names)})

    monkeypatch.setattr(patients, "read_table", oof)
    np.testing.assert_allclose(patients._gates(facts), 0.3)


def test_the_gallery_has_the_hardest_and_the_surest_of_each_class() -> None:
    loss = np.linspace(3, 0.01, 30)
    table = pd.DataFrame({"label": [1, 0] * 15, "predicted": [0] * 10 + [1, 0] * 10, "log_loss": loss})
    assert patients.picked(table) == [0, 1, 2, 3, 4, 5, 6, 7, 29, 28]
    assert patients.picked(table.head(3)) == [0, 1, 2]


def test_every_drawn_thing_says_its_numbers(shown: Section, facts: Facts) -> None:
    drawing, table = of_kind(shown, Drawing)[0], of_kind(shown, Table)[0]
    wrong = table.frame["predicted"] != table.frame["label"]
    assert shown.lead.startswith(f"{wrong.sum()} of {len(table.frame)} patients are misclassified")
    assert f"reactive: {(facts.labels_P == 0).sum()} patients" in drawing.alt and "median probability" in drawing.alt
    assert any("optimistic" in note.text for note in of_kind(shown, Note))
    assert "row" not in table.frame


def test_the_gallery_shows_cells_and_where_a_network_looks(shown: Section) -> None:
    block = of_kind(shown, Block)[0]
    cells = [cell for one in block.data["patients"] for side in one["sides"] for cell in side["cells"]]
    assert len(cells) > 8 and all(cell.source.startswith("data:image/jpeg") and cell.alt for cell in cells)
    assert sum(bool(cell.heat) for cell in cells) == sum(
        bool(side["cells"]) for one in block.data["patients"] for side in one["sides"]
    )


def test_without_pictures_or_an_ensemble_it_is_said_why(facts: Facts) -> None:
    table = patients.scored_table(facts)
    for changed, reason in (
        (replace(facts, pictures=False), "made without pictures of cells"),
        (replace(facts, bundle=None), "lymphtune ensemble --top 2 --run own"),
        (
            replace(facts, cohort=replace(facts.cohort, reference_date=facts.cohort.reference_date.replace(year=2000))),
            "other folds or patients",
        ),
    ):
        (note,) = patients._gallery(changed, table)
        assert isinstance(note, Note) and reason in note.text


def test_a_cohort_whose_pictures_give_the_label_away_is_told(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = facts.cohort
    pictures = cohort.pictures_CSS3 // 2
    of_tumoral = np.repeat(cohort.labels == 1, cohort.patients["n_cells"])
    pictures[of_tumoral] += 60
    with styled():
        section = cohort_section.section(replace(facts, cohort=replace(cohort, pictures_CSS3=pictures)))
    warnings = [note.text for note in of_kind(section, Note) if note.warning]
    assert any(text.startswith("Background red alone predicts the label: AUC 1.000") for text in warnings)
    table = of_kind(section, Table)[1].frame
    assert all(f"all {len(table)} tried" in text for text in warnings)
    assert f"of {len(table)} properties that should not matter predict the label alone" in section.lead
    assert {"background red", "size of picture files", "format of DOB"} <= set(table["attribute"])


def test_members_that_cannot_see_the_size_of_bags_are_counted(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ShortcutAudit(pd.DataFrame({"attribute": ["number of cells", "brightness"], "p": [0.01, 0.5]}))
    (hint,) = cohort_section._on_bags(facts, found)
    assert "`bag_size: fixed` cannot use the number of cells" in hint.text
    assert cohort_section._on_bags(facts, ShortcutAudit(found.table.assign(p=0.5))) == []
    truly = Run.configuration

    def fixed(run: Run, trial: str) -> Configuration:
        chosen = truly(run, trial)
        return chosen.model_copy(update={"data": chosen.data.model_copy(update={"bag_size": "fixed:3"})})

    monkeypatch.setattr(Run, "configuration", fixed)
    (note,) = cohort_section._on_bags(facts, found)
    assert note.text.startswith("2 of 2 members use the same number of cells")


def test_the_cohorts_counts_are_those_of_its_patients(facts: Facts) -> None:
    with styled():
        section = cohort_section.section(facts)
    counts = of_kind(section, Table)[0].frame.set_index("class")
    assert counts["patients"].to_dict() == {"reactive": 6, "tumoral": 6, "to predict": 3}
    assert (counts["women"] + counts["men"] + counts["sex unknown"] == counts["patients"]).all()
    assert counts["cells_all"].sum() == len(facts.cohort.pictures_CSS3)
    age = facts.cohort.patients.query("label == 1")["age_years"].median()
    assert counts.loc["tumoral", "age_median"] == age and f"median age {age:.0f}" in of_kind(section, Drawing)[0].alt


def test_attributes_of_the_cohorts_own_are_counted(facts: Facts) -> None:
    patients = facts.cohort.patients
    smokes = np.where(patients["label"] == 1, "yes", "no")
    more = (Attribute("hb"), Attribute("smoker", levels=("no", "yes")))
    given = replace(
        facts.cohort, patients=patients.assign(hb=np.nan, smoker=smokes), attributes=(*facts.cohort.attributes, *more)
    )
    table = cohort_section._counts(given)
    counts, shown = table.frame.set_index("class"), table.shown.set_index("of")
    assert counts["smoker: yes"].to_dict() == {"reactive": 0, "tumoral": 6, "to predict": 0}
    assert shown.loc["hb", "tumoral"] == "unknown" and shown.loc["smoker: no", "reactive"] == "6"
