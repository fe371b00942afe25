"""Properties of pictures and bags that a model might learn in place of the disease."""

from dataclasses import replace

import numpy as np

from lymphtune.cohort import Cohort
from lymphtune.shortcuts.properties import NAMES, pattern_of, shortcuts


def test_each_property_follows_what_it_is_named_after(noisy_cohort: Cohort) -> None:
    rows = noisy_cohort.labelled
    plain = shortcuts(noisy_cohort, rows)
    assert list(plain.columns)[: len(NAMES)] == list(NAMES)
    assert {"missing sex", "missing age_years"} <= set(plain) and "missing label" not in plain
    assert plain["number of cells"].tolist() == noisy_cohort.patients["n_cells"].to_numpy()[rows].tolist()
    assert plain["order of ids"].tolist() == list(range(len(rows)))
    assert set(plain["pattern of ids"]) == {"P#"} and pattern_of("A12-3x") == "A#-#x"
    sexless = noisy_cohort.patients["sex"].where(noisy_cohort.patients.index != rows[2], "")
    without = replace(noisy_cohort, patients=noisy_cohort.patients.assign(sex=sexless))
    assert plain["missing sex"].sum() == 0
    assert shortcuts(without, rows)["missing sex"].tolist() == [float(row == rows[2]) for row in rows]

    pictures = noisy_cohort.pictures_CSS3 // 2
    changed = pictures.copy()
    start, end = noisy_cohort.starts[rows[3] : rows[3] + 2]
    changed[start:end, :, :, 0] = np.clip(changed[start:end, :, :, 0].astype(int) + 40, 0, 255)
    before, after = (shortcuts(replace(noisy_cohort, pictures_CSS3=of), rows) for of in (pictures, changed))
    before, after = (table.drop(columns="pattern of ids") for table in (before, after))
    moved = (after - before).iloc[3]
    assert abs(moved["background red"] - 40) < 1 and abs(moved["brightness"] - 40 / 3) < 1
    assert abs(moved["background blue"]) < 1e-9 and abs(moved["sharpness"]) < 1e-9
    assert (after - before).drop(index=3).abs().to_numpy().max() == 0


def test_blurred_pictures_are_less_sharp(noisy_cohort: Cohort) -> None:
    rows, given = noisy_cohort.labelled, noisy_cohort.pictures_CSS3.astype(float)
    blurred = ((given + np.roll(given, 1, 1) + np.roll(given, 1, 2)) / 3).astype(np.uint8)
    crisp, soft = (shortcuts(of, rows) for of in (noisy_cohort, replace(noisy_cohort, pictures_CSS3=blurred)))
    assert (soft["sharpness"] < crisp["sharpness"] - 0.5).all()


def test_an_even_slope_of_light_is_not_sharp(noisy_cohort: Cohort) -> None:
    pictures = np.zeros_like(noisy_cohort.pictures_CSS3) + np.arange(44, dtype=np.uint8)[:, None, None] * 5
    found = shortcuts(replace(noisy_cohort, pictures_CSS3=pictures), noisy_cohort.labelled)
    assert found["sharpness"].abs().max() == 0


def test_the_background_is_the_pale_part(noisy_cohort: Cohort) -> None:
    pictures = np.full_like(noisy_cohort.pictures_CSS3, 60)
    pictures[:, :22, :22] = (230, 220, 200)  # a quarter
    found = shortcuts(replace(noisy_cohort, pictures_CSS3=pictures), noisy_cohort.labelled)
    assert found.loc[0, ["background red", "background green", "background blue"]].tolist() == [230, 220, 200]
