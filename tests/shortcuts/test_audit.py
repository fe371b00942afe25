"""The shortcut audit of a whole cohort: planted shortcuts are named, and a clean cohort gives no line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lymphtune.cohort import REFERENCE_DATE, Cohort, load_cohort
from lymphtune.cohort.packed import pack
from lymphtune.cohort.pseudonyms import Pseudonyms
from lymphtune.cohort.simulation.patients import write_simulated
from lymphtune.shortcuts import audit as module
from lymphtune.shortcuts.audit import enough_patients, sampled_audit, shortcut_audit, shortcut_findings
from lymphtune.shortcuts.origins import Attributes


def evidence_of_patients(labels: np.ndarray, ids: list[str], n_cells: np.ndarray | None = None) -> Cohort:
    """Return patients whose pictures are noise."""
    rng = np.random.default_rng(1)
    counts = np.full(len(labels), 2) if n_cells is None else n_cells
    patients = pd.DataFrame(
        {"patient": ids, "label": labels, "sex": "F", "age_years": 50.0, "lymphocytes_g_per_l": 5.0, "n_cells": counts}
    )
    pictures = rng.integers(0, 256, (int(counts.sum()), 16, 16, 3), dtype=np.uint8)
    return Cohort("made up", patients, pictures, [f"{number:064x}" for number in range(len(pictures))])


LABELS = np.random.default_rng(2).permutation(np.arange(60) % 2)
PLAIN = [f"P{number}" for number in range(60)]


def test_a_cohort_without_shortcuts_gives_no_line() -> None:
    found = shortcut_audit(evidence_of_patients(LABELS, PLAIN))
    assert found.findings == [] and len(found.significant) == 0
    assert "pattern of ids" not in set(found.table["attribute"])  # all alike: nothing to tell by


def test_the_ids_of_one_centre_give_the_label_away() -> None:
    ids = [f"{'NORTH' if label else 'S'}-{number}" for number, label in enumerate(LABELS)]
    found = shortcut_audit(evidence_of_patients(LABELS, ids))
    assert found.table.loc[0, "attribute"] == "pattern of ids" and found.table.loc[0, "balanced_accuracy"] == 1
    line = found.findings[0].text
    assert len(found.findings) == 1
    assert line.startswith("pattern of ids alone predicts the label: balanced accuracy 1.00, AUC 1.00")


def test_a_bag_size_that_knows_the_label_is_named() -> None:
    cohort = evidence_of_patients(LABELS, PLAIN, 2 + 3 * LABELS + np.arange(60) % 3)
    found = shortcut_audit(cohort)
    assert found.significant["attribute"].tolist() == ["number of cells"]
    assert found.findings[0].text.endswith("in place of the disease, and cannot with `bag_size: fixed`")


def test_files_are_looked_at_where_the_cohort_is_a_folder(tiny_cohort: Cohort, tiny_cohort_folder: Path) -> None:
    told = set(shortcut_audit(tiny_cohort, tiny_cohort_folder).table["attribute"])
    assert {"size of picture files", "format of DOB"} <= told
    packed = set(shortcut_audit(tiny_cohort, tiny_cohort_folder / "cohort.parquet").table["attribute"])
    assert packed == set(shortcut_audit(tiny_cohort).table["attribute"]) == packed - {"format of DOB"}


def test_what_is_told_twice_counts_once(tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def same(folder: Path, cohort: Cohort, rows: np.ndarray) -> Attributes:
        return {"again": np.arange(len(rows), dtype=float), "constant": np.ones(len(rows))}

    monkeypatch.setattr(module, "origins", same)
    told = shortcut_audit(tiny_cohort, tmp_path).table["attribute"].tolist()
    assert "order of ids" in told and not {"again", "constant"} & set(told)


def test_patients_to_predict_play_no_part() -> None:
    labels = np.where(np.arange(60) % 4 == 3, -1, LABELS)
    dark = evidence_of_patients(labels, PLAIN)
    pictures = dark.pictures_CSS3.copy()
    pictures[np.repeat(labels == -1, 2)] = 0
    one, other = (shortcut_audit(of).table for of in (dark, replace(dark, pictures_CSS3=pictures)))
    pd.testing.assert_frame_equal(one, other)


def test_the_runs_own_folds_are_used() -> None:
    cohort = evidence_of_patients(LABELS, PLAIN)
    fold_P = np.where(np.arange(60) < 20, 0, -1)  # one hold-out, in which the order of ids is another than outside
    given = shortcut_audit(cohort, None, fold_P).table.set_index("attribute")
    assert not given.sort_index().equals(shortcut_audit(cohort).table.set_index("attribute").sort_index())
    steps = given.loc["brightness", "auc"] * (LABELS[:20] == 1).sum() * (LABELS[:20] == 0).sum() * 2
    assert steps == pytest.approx(round(steps))  # an area over those twenty alone


def test_too_few_patients_tell_nothing() -> None:
    one_class = evidence_of_patients(np.r_[0, np.ones(9, int)], PLAIN[:10])
    assert shortcut_audit(one_class).findings == [] and len(shortcut_audit(one_class).table) == 0
    assert not enough_patients(LABELS[:15]) and enough_patients(LABELS)


def test_groups_stay_in_one_fold_where_that_can_be() -> None:
    cohort = evidence_of_patients(LABELS, PLAIN)
    pairs = [f"{label} {number // 2}" for label, number in zip(LABELS, np.arange(60), strict=True)]
    fold_P = module._folds(replace(cohort, patients=cohort.patients.assign(group=pairs)), 0)
    assert fold_P is not None
    assert len({(pair, fold) for pair, fold in zip(pairs, fold_P, strict=True)}) == len(set(pairs))
    one_class = ["north" if label else f"site {number % 5}" for number, label in enumerate(LABELS)]
    for named in (["north"] * 60, [f"site {number % 3}" for number in range(60)], one_class):
        site = replace(cohort, patients=cohort.patients.assign(group=named))
        assert shortcut_audit(site).table["auc"].notna().all()  # too few groups, or all of a class in one


def simulated_folder(folder: Path) -> Path:
    write_simulated(folder, 48, 5, 1)
    table = pd.read_csv(folder / "clinical_annotation.csv", dtype=str, keep_default_na=False)
    table["DOB"] = np.where(table["LABEL"] == "1", "16-09-1934", "3/27/1961")
    table.to_csv(folder / "clinical_annotation.csv", index=False)
    return folder


def test_few_pictures_tell_what_all_of_them_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = simulated_folder(tmp_path / "cohort")
    pack(folder, tmp_path / "cohort.parquet", REFERENCE_DATE)
    for data in (folder, tmp_path / "cohort.parquet"):
        whole = shortcut_audit(load_cohort(data), data).table
        glanced = sampled_audit(data, REFERENCE_DATE)
        assert glanced is not None
        pd.testing.assert_frame_equal(glanced.table, whole)
    (finding,) = shortcut_findings(folder, REFERENCE_DATE)
    assert finding.severity == "warning" and finding.text.startswith("format of DOB alone predicts the label")
    monkeypatch.setattr(module, "WARNING_P", 0.001)
    assert [finding.severity for finding in shortcut_findings(folder, REFERENCE_DATE)] == ["note"]


def test_few_patients_are_not_audited_by_the_doctor(tiny_cohort_folder: Path) -> None:
    assert sampled_audit(tiny_cohort_folder, REFERENCE_DATE) is None
    assert shortcut_findings(tiny_cohort_folder, REFERENCE_DATE) == []


def test_pseudonyms_hide_no_shortcut_of_the_files(tmp_path: Path) -> None:
    folder = simulated_folder(tmp_path / "cohort")
    hidden = load_cohort(folder, REFERENCE_DATE, Pseudonyms(b"key"))
    told = shortcut_audit(hidden, folder).significant["attribute"].tolist()
    assert told == shortcut_audit(load_cohort(folder), folder).significant["attribute"].tolist() == ["format of DOB"]
