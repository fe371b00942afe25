"""run.yaml: what a search is and how it ended, as a typed document.

Keys that this version does not know are kept. What is missing where a search always writes it, or is of another type,
is refused by name.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lymphtune.config import shown
from lymphtune.errors import InputError
from lymphtune.times import a_day

MOST_COUNTED, LONGEST_TEXT = 10**9, 10_000
Count = Annotated[int, Field(ge=0, le=MOST_COUNTED)]
Number = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Day = Annotated[str, BeforeValidator(lambda value: str(a_day(value)))]
Stage = Annotated[list[Count], Field(min_length=2, max_length=2)]  # trials and epochs


class Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    def as_yaml(self) -> dict[str, Any]:
        """Return plain values for run.yaml, without those that were never given."""
        return self.model_dump(mode="json", exclude_unset=True)


class CohortDescription(Part):
    """The cohort that a run was trained on; `data` is where it was, pseudonym_key where the key of its ids was."""

    name: Text
    simulated: bool
    data: Text
    hash: Text
    reference_date: Day
    ages: Literal["examination", "reference_date"] = "reference_date"
    n_patients: Count = 0
    n_labelled: Count = 0
    n_to_predict: Count = 0
    n_cells: Count = 0
    pseudonyms: Text | None = None
    pseudonym_key: Text | None = None
    attributes: list[dict[str, Any]] | None = None


class ProtocolDescription(Part):
    """How a run trains and stops its trials; `stages`: trials and epochs asked for at first and at each extension."""

    folds: Count
    repeats: Count
    epochs: Count
    trials: Count
    seed: Count
    fold_seed: Count | None = None
    grouped: bool = False
    scheduler: Text = "asha"
    racing: bool = False
    searcher: Text = "random"
    draws: Text = "any"
    grace: Count | None = None
    reduction: Count = 3
    rungs: list[Count] = []
    stages: list[Stage] | None = None
    configurations: Text = ""
    weights: Text | None = None
    cpus_per_trial: Count = 1
    gpus_per_trial: Number | Literal["auto"] | None = None
    max_concurrent: Count | None = None
    max_failures: Count = 3
    keep_weights: Count = 20
    report: bool = False
    mlflow: Text | None = None
    wandb: Text | None = None

    @property
    def seed_of_folds(self) -> int:
        return self.seed if self.fold_seed is None else self.fold_seed


class SpaceDescription(Part):
    name: Text
    about: Text = ""
    grid: bool = False
    configuration: Any = None
    rows: list[dict[str, Any]] = []
    note: Text = ""


class PrecisionDescription(Part):
    precision: Text
    channels_last: bool
    device: Text = "cpu"


class StoppingDescription(Part):
    """The rungs of early stopping, those at which it decided on a trial or more, and the trials it stopped."""

    rungs: Count
    decided: Count
    stopped: Count


class RunDescription(Part):
    """run.yaml as a whole."""

    name: Text = ""
    created: Annotated[Text, BeforeValidator(str)]
    status: Text = "done"
    command: Text = ""
    seconds: Number = 0.0
    busy: Number = 0.0
    cohort: CohortDescription
    protocol: ProtocolDescription
    space: SpaceDescription
    versions: dict[str, Any] = {}
    arithmetic: PrecisionDescription | None = None
    stopping: StoppingDescription | None = None

    @classmethod
    def read(cls, given: Any, where: Path) -> "RunDescription":
        """Return the description in a parsed run.yaml; raises InputError that names what is missing or wrong."""
        parts = [given.get(key) for key in ("cohort", "protocol")] if isinstance(given, dict) else [None]
        if not all(isinstance(part, dict) for part in parts) or "created" not in given:
            raise InputError(f"{where}: not the description of a run; name the folder of a run")
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            if first["type"] == "missing":
                raise InputError(
                    f"{where}: no '{place}' in it; it was written by another version; search again"
                ) from None
            raise InputError(
                f"{where}: {place} is {shown(first['input'])}, which no search writes; search again"
            ) from None

    def changed(self, **values: Any) -> "RunDescription":
        """Return a copy with other values."""
        return self.model_validate(self.as_yaml() | values)
