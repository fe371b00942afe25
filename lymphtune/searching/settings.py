"""The settings of a search: name, type, default, help and role of each, for the command line and the Python API.

Nothing heavy is imported here: the command line reads the fields for its help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from lymphtune.errors import InputError, listed
from lymphtune.files import RUNS, name_problem
from lymphtune.times import REFERENCE_DATE

if TYPE_CHECKING:
    from lymphtune.arguments import Day, Folder, Seconds

SEARCHERS = ("random", "tpe")
MOST_SEED = 2**32 - 1  # that NumPy and scikit-learn take
Role = Literal["defining", "recorded", "call"]


class Option(NamedTuple):
    """What is known of one setting beside its name, type and default.

    help: a phrase for `--help`; "" for a setting that has no option of its own. shown: the default in words.
    role: `defining` settings make another search where they differ; `recorded` ones are kept in run.yaml and taken
    up again by --resume; those of one `call` are neither. least: the lowest number that is accepted.
    """

    help: str
    metavar: str
    shown: str
    role: Role
    least: float


def option(
    default: Any, help: str, metavar: str = "N", *, shown: str = "", role: Role = "recorded", least: float = 1
) -> Any:
    """Return a dataclass field with its `Option`."""
    shown = shown or ("no" if default is False else str(default))
    return field(default=default, metadata={"option": Option(help, metavar, shown, role, least)})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to search; None takes what the space suggests or the machine offers."""

    trials: int | None = option(None, "number of configurations to train", shown="the space's", role="call")
    epochs: int | None = option(None, "epochs of a trial that is not stopped early", shown="the space's", role="call")
    folds: int | None = option(
        None,
        "number of folds; 1 is one hold-out of 38 patients, the study's protocol",
        shown="the space's",
        role="defining",
    )
    repeats: int | None = option(None, "seeds each configuration is trained with", shown="the space's", role="defining")
    seed: int = option(0, "seed of the fold split, of the configurations and of training", role="defining", least=0)
    fold_seed: int | None = option(None, "seed of the fold split", shown="--seed", role="defining", least=0)
    name: str | None = option(
        None, "run name; an existing run is resumed", "NAME", shown="SPACE-TIMESTAMP", role="call"
    )
    runs: Folder = option(RUNS, "", role="call")
    storage: str | None = option(None, "", role="call")  # URI that the folder of the run is a copy of
    cpus_per_trial: int = option(1, "CPU threads a trial trains with")
    gpus_per_trial: float | Literal["auto"] | None = option(
        None,
        "GPUs a trial uses: a number, a fraction, or auto to measure it",
        "X",
        shown="1 where there are any",
        least=0,
    )
    max_concurrent: int | None = option(None, "trials that train at the same time", shown="as many as fit")
    max_failures: int = option(3, "number of times a trial is resumed after its worker died", least=0)
    keep_weights: int = option(20, "number of best trials whose weights are kept")
    address: str | None = option(
        None, "address of a Ray cluster: auto or HOST:PORT", "A", shown="a Ray on this machine alone", role="call"
    )
    time_budget_s: Seconds | None = option(
        None, "time after which the search stops, to be resumed: 90s, 30m or 2h", "T", shown="none", role="call"
    )
    reference_date: Day = option(REFERENCE_DATE, "", role="call")
    weights: Folder | None = option(
        None, "folder of pretrained weights, <name>.safetensors each", "DIR", shown="timm's hub", role="call"
    )
    report: bool = option(False, "rewrite report.html every minute and at the end")
    mlflow: str | None = option(
        None, "report trials to MLflow: a folder, sqlite:///FILE or the address of a server", "URI", shown="off"
    )
    wandb: str | None = option(
        None, "report trials to a Weights & Biases project, named lymphtune unless given", "PROJECT", shown="off"
    )
    searcher: str = option(
        "random",
        "how configurations are chosen: random, or tpe, which learns from finished trials",
        "S",
        role="defining",
    )
    scheduler: str = option("asha", "early stopping rule: asha, median or none", "S", role="defining")
    grace: int | None = option(
        None, "epochs before a trial can be stopped early", shown="a third of all", role="defining"
    )
    reduction: int = option(3, "fraction kept at each rung of asha: the best 1/N", role="defining", least=2)
    racing: bool = option(
        False, "also stop trials that are very probably worse than the best on the same patients", role="defining"
    )
    pseudonymise: Folder | None = option(None, "", role="call")

    def __post_init__(self) -> None:
        """Check what a command or a function was given; raises InputError that names the setting."""
        from lymphtune.arguments import check_fields

        check_fields(self)
        for one in fields(self):
            value, least = getattr(self, one.name), option_of(one).least
            low = value < least if isinstance(value, int) else isinstance(value, float) and value < 0
            if not isinstance(value, bool) and low:
                raise InputError(f"{one.name}: {value}; expected {least:g} or more")
        for name in ("seed", "fold_seed"):
            if (getattr(self, name) or 0) > MOST_SEED:
                raise InputError(f"{name}: {getattr(self, name)}; expected {MOST_SEED} or less")
        self._check_words()

    def _check_words(self) -> None:
        from lymphtune.registry import stopping_rules
        from lymphtune.searching.trackers.checks import check_packages

        strange = self.name is not None and (not self.name.isprintable() or name_problem(self.name) is not None)
        if self.name is not None and (strange or self.name[:1] in ("", ".") or {"/", "\\"} & set(self.name)):
            raise InputError(f"name: {self.name!r}; expected a plain folder name")
        check_packages(self.mlflow, self.wandb)
        for name, word, words in (
            ("searcher", self.searcher, SEARCHERS),
            ("scheduler", self.scheduler, stopping_rules.words()),
        ):
            if word not in words:
                raise InputError(f"{name}: {word!r}; there are {listed(word, words)}")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """Return the settings of keywords; raises InputError where one is misspelt."""
        from lymphtune.arguments import check_names

        check_names(given, [one.name for one in fields(cls)], "search")
        return cls(**given)

    @property
    def seed_of_folds(self) -> int:
        return self.seed if self.fold_seed is None else self.fold_seed


def option_of(setting: Field[Any]) -> Option:
    """Return what is known of a setting."""
    found: Option = setting.metadata["option"]
    return found


def of_role(role: Role) -> tuple[str, ...]:
    """Return the names of the settings of one role."""
    return tuple(one.name for one in fields(Settings) if option_of(one).role == role)
