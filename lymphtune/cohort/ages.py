"""Ages in words: to which day they are counted, and how old the youngest and the oldest patient are."""

from lymphtune.cohort.attributes import STANDARD
from lymphtune.cohort.blocks import CohortSurvey
from lymphtune.cohort.cohort import Cohort
from lymphtune.cohort.layout import FILE, OPTIONAL

AGE_YEARS = STANDARD[0].name
COLUMN = f"{OPTIONAL['examined_on']} (`examined_on` in {FILE})"  # that gives the day of each patient's examination


def has_ages(cohort: Cohort | CohortSurvey) -> bool:
    """Return whether age is an attribute of the cohort."""
    return any(attribute.name == AGE_YEARS for attribute in cohort.attributes)


def age_note(cohort: Cohort | CohortSurvey) -> str:
    """Return to what ages are counted and their range, "" where the cohort has none."""
    if not has_ages(cohort):
        return ""
    if cohort.ages == "examination":
        return f"ages are those at the examination: {age_range(cohort)}"
    counted = f"ages are counted to {cohort.reference_date}: {age_range(cohort)}"
    if cohort.simulated:
        return counted
    return f"{counted} (`--reference-date` counts to another day, a column {COLUMN} to each patient's examination)"


def age_range(cohort: Cohort | CohortSurvey) -> str:
    """Return the lowest and the highest age, in words."""
    ages_P = cohort.patients[AGE_YEARS].dropna()
    if not len(ages_P):
        return "none is known"
    return f"{ages_P.min():.1f} to {ages_P.max():.1f} years"
