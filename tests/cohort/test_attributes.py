import numpy as np
import pandas as pd
import pytest

from lymphtune.cohort.attributes import (
    STANDARD,
    Attribute,
    attribute_matrix,
    attribute_names_text,
    attributes_of_yaml,
    names_of,
)

PATIENTS = pd.DataFrame(
    {"age_years": [50.0, np.nan], "lymphocytes_g_per_l": [np.e, 1.0], "smoker": ["yes", ""], "stage": ["B", "D"]}
)
SMOKER, STAGE = Attribute("smoker", levels=("no", "yes")), Attribute("stage", levels=("A", "B", "C"))


def test_a_model_is_shown_numbers_logarithms_and_levels() -> None:
    every = (*STANDARD, SMOKER, STAGE)
    shown_PA = attribute_matrix(PATIENTS, every)
    expected = [[50, 1, 1, 0, 1, 0], [np.nan, 0, np.nan, np.nan, np.nan, np.nan]]  # D is none of the levels
    np.testing.assert_allclose(shown_PA, expected)
    assert names_of(every) == [
        "age_years",
        "log lymphocytes_g_per_l",
        "smoker = yes",
        "stage = A",
        "stage = B",
        "stage = C",
    ]
    assert attribute_matrix(PATIENTS, ()).shape == (2, 0)


def test_attributes_are_read_back_as_they_were_written() -> None:
    every = (*STANDARD, SMOKER)
    assert attributes_of_yaml([attribute.as_yaml() for attribute in every]) == every
    with pytest.raises(ValueError, match="twice"):
        attributes_of_yaml([SMOKER.as_yaml(), SMOKER.as_yaml()])


def test_sentences_name_what_models_are_told() -> None:
    assert attribute_names_text(STANDARD) == "age and lymphocyte count"
    assert attribute_names_text((*STANDARD, SMOKER)) == "age_years, lymphocytes_g_per_l and smoker"
    assert attribute_names_text([SMOKER]) == "smoker"
