"""What the data is: patients, their bags of cells, and the folds that hold them out."""

from datetime import date
from pathlib import Path

from lymphtune import console
from lymphtune.arguments import Day, checked
from lymphtune.cohort.blocks import CohortSurvey
from lymphtune.cohort.cohort import REFERENCE_DATE, Cohort
from lymphtune.cohort.folds import check_trainable
from lymphtune.cohort.layout import CLINICAL
from lymphtune.cohort.packed import survey_packed
from lymphtune.cohort.pseudonyms import Pseudonyms, pseudonymised
from lymphtune.cohort.study import LAYOUT, survey_study
from lymphtune.errors import InputError

__all__ = [
    "REFERENCE_DATE",
    "SIMULATED",
    "Cohort",
    "Surveyed",
    "check_trainable",
    "default_data",
    "find_cohort",
    "load_cohort",
    "survey_cohort",
]

DEFAULT_FOLDER = "data"
SIMULATED = "simulated"
ACCEPTED = f"a folder with {LAYOUT}; a packed .parquet file; or the word {SIMULATED}"


def load_cohort(
    data: str | Path | None, reference_date: date | str = REFERENCE_DATE, pseudonyms: Pseudonyms | None = None
) -> Cohort:
    """Return the cohort that `data` names, ages counted to `reference_date` (a date, or its text YYYY-MM-DD).

    `data` is a folder in the study's layout, a packed Parquet file or the word simulated; None means the
    folder ./data where there is one, else the simulated cohort. pseudonyms: stand in place of ids. Raises InputError
    on anything else.
    """
    day: date = checked(Day, "reference_date", reference_date)
    if pseudonyms is None and find_cohort(data) is None:
        from lymphtune.cohort.simulation.patients import simulated_cohort  # which keeps what it has drawn

        return simulated_cohort(day)
    return survey_cohort(data, day, pseudonyms).load()


def survey_cohort(
    data: str | Path | None, reference_date: date | None = REFERENCE_DATE, pseudonyms: Pseudonyms | None = None
) -> CohortSurvey:
    """Return the cohort that `data` names before its pictures are read, to be read block by block.

    reference_date: None where nobody asks for ages: no birth is then too late.
    """
    if pseudonyms is not None:
        return pseudonymised(survey_cohort(data, reference_date), pseudonyms)
    path = find_cohort(data)
    if path is None:
        from lymphtune.cohort.simulation.patients import survey_simulated

        return survey_simulated(reference_date or REFERENCE_DATE)
    return survey_study(path, reference_date) if path.is_dir() else survey_packed(path, reference_date)


def find_cohort(data: str | Path | None) -> Path | None:
    """Return the folder or packed file, None for the simulated cohort; raises InputError where it is neither."""
    if data is None:
        data = default_data()
    if not isinstance(data, str | Path):
        raise InputError(f"data: {data!r}; expected {ACCEPTED}")
    if str(data) == SIMULATED:
        return None
    path = Path(data).expanduser()
    if path.is_dir() or (path.exists() and path.suffix.lower() == ".parquet"):
        return path
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected {ACCEPTED}")
    if path.name == CLINICAL:
        raise InputError(f"{path}: expected the folder it is in, {path.parent}")
    raise InputError(f"{path}: not a cohort; expected {ACCEPTED}")


def default_data() -> str:
    """Return ./data where there is such a folder, else the word simulated, and say so."""
    if Path(DEFAULT_FOLDER).is_dir():
        return DEFAULT_FOLDER
    console.say(
        f"No cohort named and no folder ./{DEFAULT_FOLDER}: using the SIMULATED cohort. "
        "Its patients and cells are drawn; no number from it says anything about people."
    )
    return SIMULATED
