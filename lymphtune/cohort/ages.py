"""Text about ages: the day at which they are computed, and their range."""

from lymphtune.cohort.attributes import STANDARD
from lymphtune.cohort.blocks import CohortSurvey
from lymphtune.cohort.cohort import Cohort
from lymphtune.cohort.layout import FILE, OPTIONAL

AGE_YEARS = STANDARD[0].name
# the column with the day of each patient's examination
COLUMN = f"{OPTIONAL['examined_on']} (`examined_on` in {FILE})"


def has_ages(cohort: Cohort | CohortSurvey) -> bool:
    """Whether age is an attribute of the cohort."""
    return any(attribute.name == AGE_YEARS for attribute in cohort.attributes)


def age_note(cohort: Cohort | CohortSurvey) -> str:
    """The day at which ages are computed and their range, as text; "" if the cohort has no ages."""
    if not has_ages(cohort):
        return ""
    if cohort.ages == "examination":
        return f"ages are those at the examination: {age_range(cohort)}"
    counted = f"ages are counted to {cohort.reference_date}: {age_range(cohort)}"
    if cohort.simulated:
        return counted
    return f"{counted} (`--reference-date` counts to another day, a column {COLUMN} to each patient's examination)"


def age_range(cohort: Cohort | CohortSurvey) -> str:
    """The lowest and the highest age, as text."""
    ages_P = cohort.patients[AGE_YEARS].dropna()
    if not len(ages_P):
        return "none is known"
    return f"{ages_P.min():.1f} to {ages_P.max():.1f} years"
