"""Configurations: typed, complete, checked where they enter; one point of a search space each."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from datetime import date
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from lymphtune import registry
from lymphtune.errors import InputError, listed, suggestion
from lymphtune.registry import Family

MOST_SHOWN = 200  # characters of a value in an error message


@dataclass(frozen=True)
class Part:
    """One word of a family with its options: `resnet`, or `resnet: {filters: 64}` in YAML.

    A word with an option `name` takes it behind a colon: `timm:resnet18`.
    """

    word: str
    options: Any

    def as_yaml(self) -> dict[str, Any]:
        options = asdict(self.options)
        word = f"{self.word}:{options.pop('name')}" if "name" in options else self.word
        return {word: options}


def _parse_part(family: Family, value: Any) -> Part:
    if isinstance(value, Part):
        return value
    word: Any = value
    options: Any = {}
    if isinstance(value, dict) and len(value) == 1:
        word, options = next(iter(value.items()))
        options = {} if options is None else options
    if not isinstance(word, str) or not isinstance(options, dict):
        _refuse(f": expected one word of {', '.join(family.words())}, or a word with its options; found {shown(value)}")
    word, colon, name = word.partition(":")
    if word not in family.words():
        _refuse(f" has no '{word}'; there are {listed(word, family.words())}")
    member = family[word]
    if colon:
        if "name" not in {field.name for field in fields(member.options)} or "name" in options:
            _refuse(f": '{word}' takes no name behind a colon, or has one already; found {shown(value)}")
        options = {"name": name} | options
    try:
        text = json.dumps(options, default=str)
    except (TypeError, ValueError, RecursionError):
        _refuse(f".{word}: expected plain values by name; found {shown(options)}")
    try:
        return Part(word, TypeAdapter(member.options).validate_json(text))
    except ValidationError as error:
        _refuse(f".{word}{mishap(error.errors()[0], sorted(field.name for field in fields(member.options)))}")


def parse_part(family: Family, value: Any, where: str) -> Part:
    """Return the checked part; raises InputError that starts with `where`."""
    try:
        return _parse_part(family, value)
    except PydanticCustomError as error:
        raise InputError(f"{where}{error.message()}") from error


def _refuse(text: str) -> NoReturn:
    text = text.encode(errors="backslashreplace").decode()  # half a surrogate pair is no text to pydantic
    raise PydanticCustomError("part", "{text}", {"text": text})


def _word(family: Family) -> Any:
    return Annotated[
        Part, BeforeValidator(lambda value: _parse_part(family, value)), PlainSerializer(lambda part: part.as_yaml())
    ]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )


class Model(Section):
    """What is trained: encoder -> aggregation -> fusion with the clinical attributes."""

    encoder: _word(registry.encoders)  # type: ignore[valid-type]
    aggregator: _word(registry.aggregators) = Part("prediction_mean", None)  # type: ignore[valid-type]
    fusion: _word(registry.fusions) = Part("none", None)  # type: ignore[valid-type]
    head: _word(registry.heads) = Part("linear", None)  # type: ignore[valid-type]

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        defaults = {"aggregator": "prediction_mean", "fusion": "none", "head": "linear"}
        return defaults | given if isinstance(given, dict) else given


FIXED_SIZE = "fixed(:[1-9][0-9]{0,3})?"  # of a bag
_BagSize = Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=f"^{FIXED_SIZE}$")] | None


class Data(Section):
    """What a network sees of a bag."""

    crop_px: int = Field(112, ge=40, le=224)  # side of the central square; a cell fits in 112
    flips: bool = True  # horizontal and vertical, each with probability 1/2, in training only
    quarter_turns: bool = True  # 0, 90, 180 or 270 degrees, in training only
    bag_size: _BagSize = 24  # cells drawn a patient and step; null = all; fixed, fixed:N = to judge by, too
    tta: bool = False  # judge by the mean over the four flips of every cell

    @field_validator("bag_size", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        number = type(given) is int and given > 0
        if not (given is None or number or (isinstance(given, str) and re.fullmatch(FIXED_SIZE, given))):
            raise ValueError(f"expected a number of cells, null, fixed or fixed:N; found {shown(given)}")
        return given

    @property
    def fixed(self) -> bool:
        """Return whether every patient is trained and judged on as many cells as any other."""
        return isinstance(self.bag_size, str)

    def fixed_cells(self, fewest: int) -> int:
        """Return how many cells that is: the number given, else `fewest`, those of the smallest bag."""
        assert isinstance(self.bag_size, str)
        return int(self.bag_size.partition(":")[2] or fewest)


class Training(Section):
    """How a network is trained."""

    optimiser: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0, le=10)  # the highest that the schedule reaches
    weight_decay: float = Field(1e-4, ge=0, le=1)  # of the optimiser: pulls weights towards 0
    schedule: _word(registry.schedules) = Part("one_cycle", None)  # type: ignore[valid-type]
    class_weight: Literal["balanced", "none"] = "balanced"  # balanced: both classes weigh the same in the loss
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # labels become s/2 and 1 - s/2
    gradient_clip: float | None = Field(None, gt=0)  # largest norm of a step's gradient; null = any
    patients_per_step: int = Field(4, ge=1)  # bags of one step of the optimiser
    moving_average: float = Field(0.98, ge=0, lt=1)  # decay a step of the averaged weights; 0 = off
    checkpoint: Literal["last", "best"] = "last"  # best = the epoch that scored best: a selection
    precision: Literal["auto", "bfloat16", "float32"] = "auto"  # auto: what was measured to be faster on the machine

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        return {"schedule": "one_cycle"} | given if isinstance(given, dict) else given


class Configuration(Section):
    """A network (`model`, with `data` and `training`) or a clinical model (`clinical`), never both."""

    clinical: _word(registry.clinical_models) | None = None  # type: ignore[valid-type]
    model: Model | None = None
    data: Data = Data()
    training: Training | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = {key: value for key, value in given.items() if value is not None}  # an empty section
        kinds = [kind for kind in ("clinical", "model") if kind in given]
        if len(kinds) != 1:
            found = sorted(map(str, given)) or "nothing"
            _refuse(f": needs 'model' (a network) or 'clinical', one of the two; found {found}")
        if kinds == ["clinical"]:
            if extra := sorted(str(key) for key in given if key != "clinical"):
                _refuse(f": 'clinical' takes no {', '.join(extra)}: clinical attributes are all it sees")
            return given
        return {"training": {}} | given

    @property
    def kind(self) -> str:
        return "network" if self.model else "clinical"

    @property
    def sees(self) -> str:
        """Return what it looks at: `images`, `clinical` (the attributes alone) or `mixed`."""
        if self.model is None:
            return "clinical"
        return "images" if self.model.fusion.word == "none" else "mixed"

    @property
    def architecture(self) -> str:
        """Return what trials of one architecture share, sizes and training left aside: `resnet concat attention`."""
        if self.clinical is not None:
            return f"clinical {self.clinical.word}"
        assert self.model is not None
        encoder = getattr(self.model.encoder.options, "name", self.model.encoder.word)
        return f"{encoder} {self.model.fusion.word} {self.model.aggregator.word}"

    @property
    def picks_epoch(self) -> bool:
        """Return whether the trial keeps its best-scored epoch rather than its last."""
        return self.training is not None and self.training.checkpoint == "best"

    @property
    def title(self) -> str:
        """Return a few words a person recognises it by: `resnet-32 concat prediction_mean 112`."""
        if self.clinical is not None:
            return f"clinical {self.clinical.word}"
        assert self.model is not None
        options = self.model.encoder.options
        encoder = getattr(options, "label", self.model.encoder.word)
        if filters := getattr(options, "filters", None):
            encoder += f"-{filters}"
        return f"{encoder} {self.model.fusion.word} {self.model.aggregator.word} {self.data.crop_px}"

    def with_bags_of(self, fewest: int) -> "Configuration":
        """Return the same with the number of cells written out where bags are `fixed` at the smallest one's."""
        if self.model is None or not self.data.fixed:
            return self
        size = f"fixed:{self.data.fixed_cells(fewest)}"
        return self.model_copy(update={"data": self.data.model_copy(update={"bag_size": size})})

    def as_yaml(self) -> dict[str, Any]:
        """Return plain mappings, every default written out; `configuration` of it gives an equal one."""
        if self.clinical is not None:
            return {"clinical": self.clinical.as_yaml()}
        return self.model_dump(exclude={"clinical"})


def configuration(given: Any, where: str) -> Configuration:
    """Return the checked configuration; raises InputError saying where in `where` it does not fit."""
    try:
        return Configuration.model_validate(given)
    except ValidationError as error:
        raise InputError(f"{where}: {mishap(error.errors()[0], None).lstrip('.: ')}") from error


def mishap(error: ErrorDetails, words: list[str] | None) -> str:
    """Return `.path: what is wrong` in the words of a person who wrote YAML."""
    path = "".join(f".{step}" for step in error["loc"])
    if error["type"] == "part":
        return path + str(error["ctx"]["text"])
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = words or _words_at(error["loc"][:-1])
        where = path.removesuffix(f".{error['loc'][-1]}")
        return f"{where} has no '{error['loc'][-1]}'; there are {listed(error['loc'][-1], known)}"
    found = "" if error["type"] == "missing" else f"; found {shown(error['input'])}"
    if error["type"] == "value_error":  # said by one of our own checks
        return f"{path}: {error['ctx']['error']}"
    if error["type"] in ("int_type", "float_type") and isinstance(error["input"], str):
        found += _unquoted(error["input"])
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        found += suggestion(error["input"], re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    expected = "expected a mapping" if error["type"] == "model_type" else error["msg"][0].lower() + error["msg"][1:]
    return f"{path}: {expected}{found}"


def _unquoted(text: str) -> str:
    """Return what to do where a number is a text because it is quoted, else ""."""
    try:
        float(text)
    except ValueError:
        return ""
    return " (a text: write the number without quotes)"


def shown(value: Any) -> str:
    """Return the value as a person wrote it, cut where it is long; in YAML's spelling where it is no text."""
    if isinstance(value, bool):
        return "true (YAML reads yes, on and true so)" if value else "false (YAML reads no, off and false so)"
    if value is None:
        return "nothing (YAML reads an empty value, ~ and null so)"
    if isinstance(value, date):
        return f"a date, {value} (quote it where it is meant as a text)"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, a list inside itself
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def _words_at(path: tuple[int | str, ...]) -> list[str]:
    sections: dict[tuple[int | str, ...], type[Section]] = {
        (): Configuration,
        ("model",): Model,
        ("data",): Data,
        ("training",): Training,
    }
    return sorted(sections[path].model_fields) if path in sections else []


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits of a plain value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
