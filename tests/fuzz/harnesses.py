"""What a person may hand over, as bytes to its reader: only InputError may come out, soon and in little memory.

`tests/fuzz/run.py` feeds the readers with what atheris makes up, the suite with seeds and what once came out wrong.
"""

import hashlib
import io
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import date
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import save

from lymphtune.cohort.clinical import MAX_AGE_YEARS, id_problem, read_clinical
from lymphtune.cohort.layout import SECTIONS, STUDY, Layout, read_layout
from lymphtune.config import Configuration, Data, Model, Training, parse_part
from lymphtune.ensembling import recipe as recipes
from lymphtune.ensembling.bundle import FORMAT, LEARNT, Ensemble
from lymphtune.ensembling.learnt import learnt_arrays
from lymphtune.ensembling.procedure import Fitted, asked
from lymphtune.errors import InputError
from lymphtune.files import write_yaml
from lymphtune.registry import (
    Family,
    aggregators,
    calibrations,
    clinical_models,
    combiners,
    encoders,
    fusions,
    heads,
    schedules,
)
from lymphtune.spaces import SHIPPED, find_yaml, load_space, places, shipped

SCRATCH = Path(tempfile.mkdtemp(prefix="lymphtune-fuzz-"))
DRAWS = 3  # configurations drawn from a space that was read
YAML = [
    "null",
    "true",
    "&a ",
    "*a",
    "<<: ",
    "!!set",
    "!!omap",
    "!!binary",
    "? ",
    "- ",
    "1e-3",
    "2020-01-01",
    "0x10",
    "1:30",
]


@dataclass(frozen=True)
class Harness:
    """read: takes the bytes; seeds: what is sound, to start from; words: that the reader knows."""

    read: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    words: Callable[[], Sequence[str]]


def read_space(data: bytes) -> None:
    """Read a space; one that is sound can be drawn from."""
    with suppress(InputError):
        space = load_space(str(grown_or("space.yaml", data, space_words())))
        places(space.tree)
        for number in range(min(DRAWS, space.n_points or DRAWS)):
            space.sample(0, number)


def read_recipe(data: bytes) -> None:
    """Read a recipe; one that is sound says the same again."""
    with suppress(InputError):
        recipe = recipes.load_recipe(str(grown_or("recipe.yaml", data, recipe_words())))
        recipe.build()
        assert recipes.parse_recipe(recipe.as_yaml(), recipe.name, "again").as_yaml() == recipe.as_yaml()


def read_table(data: bytes) -> None:
    """Read a table of patients; after a NUL and a number by one of LAYOUTS, else by the study's layout."""
    layout = STUDY
    if data.startswith(b"\0"):
        layout, data = Layout.model_validate(LAYOUTS[(data[1:2] or b"\0")[0] % len(LAYOUTS)]), data[2:]
    with suppress(InputError):
        table = read_clinical(written("clinical_annotation.csv", data), date(2020, 1, 1), layout)
        assert len(table) and not table["patient"].duplicated().any() and table["label"].isin([-1, 0, 1]).all()
        assert all(id_problem(patient) is None for patient in table["patient"])
        ages, counts = table["age_years"].dropna(), table["lymphocytes_g_per_l"].dropna()
        assert ages.between(0, MAX_AGE_YEARS).all() and ((counts > 0) & np.isfinite(counts)).all()


def read_cohort_yaml(data: bytes) -> None:
    """Read a cohort.yaml, and, where it is sound, a table by it."""
    folder = SCRATCH / "cohort"
    folder.mkdir(exist_ok=True)
    grown_or("cohort/cohort.yaml", data, layout_words())
    with suppress(InputError):
        layout = read_layout(folder)
        assert all(not home.startswith("/") and ".." not in home.split("/") for home in [*layout.parents, layout.table])
        read_clinical(written("clinical_annotation.csv", TABLES[0].encode()), date(2020, 1, 1), layout)


def layout_seeds() -> list[bytes]:
    return planned([yaml.safe_dump(layout, sort_keys=False).encode() for layout in LAYOUTS], layout_words())


@cache
def layout_words() -> list[str]:
    sections = (Layout, *SECTIONS.values())
    values = ["study", "month_first", "iso", "latin-1", "cp1252", "1/uL", "numeric", "categorical", "{patient}", "../x"]
    return [
        *YAML,
        *(name for section in sections for name in section.model_fields),
        *values,
        *TABLE_WORDS[:9],
        ";",
        ",",
    ]


LAYOUTS: list[dict[str, Any]] = [
    {"separator": ";", "decimal": ",", "dates": "day_first", "missing": ["NA", ""], "encoding": "latin-1"},
    {"separator": "\t", "dates": "iso", "lymphocyte_unit": "1/uL", "labels": {"reactive": "r", "tumoral": "t"}},
    {
        "columns": {"age_years": "AGE", "sex": None},
        "age_unit": "months",
        "missing": ["?"],
        "attributes": {"ldh": {"column": "LDH", "log": True}, "site": {"column": "WARD", "kind": "categorical"}},
        "person": "SSN",
        "groups": ["SITE", {"column": "DOB", "by": "month"}],
    },
]
TABLES = [
    ",ID,LABEL,GENDER,DOB,LYMPH_COUNT\n0,P1,0,F,3/27/1961,4.5\n1,P2,1,m,16-09-1934,30\n2,P3,-1,,12/1/1939,1e1\n",
    'ID,LABEL,DOB,LYMPH_COUNT,NOTE\nP1,0.0,1/1/1950,4.5,"a, ""b""\nc"\n\nP10,,1/1/1950,.5,x\n',
    "\0\0ID;LABEL;GENDER;DOB;LYMPH_COUNT\nP1;0;F;27.3.1961;4,5\nP2;1;M;16.9.1934;NA\n",
    "\0\1ID\tLABEL\tGENDER\tDOB\tLYMPH_COUNT\nP1\tr\tF\t1961-03-27\t4500\nP2\tt\tM\t1934-09-16\t30000\n",
    "\0\2ID,LABEL,AGE,LYMPH_COUNT,LDH,SITE,WARD,SSN,DOB\nP1,0,700,4,200,a,w,1,1/2/1950\nP2,1,600,5,?,b,v,2,1/3/1950\n",
]
TABLE_WORDS = (
    "ID",
    "LABEL",
    "GENDER",
    "DOB",
    "LYMPH_COUNT",
    "AGE",
    "LDH",
    "SITE",
    "WARD",
    "SSN",
    "P1",
    "1/1/1950",
    "29-02-1900",
    "-1",
    "1e999",
    "1_0",
    "nan",
    "\ufeff",
    "\r\n",
    '"',
    '""',
    "../",
    "CON",
    "\u202e",
    "=1+1",
)


def read_bundle(data: bytes) -> None:
    """Read an ensemble of which the first byte says which file the others are; a sound one answers.

    All but ensemble.yaml is sealed with it, as someone who means harm would do.
    """
    folder, which = SCRATCH / "bundle", data[:1]
    files = {**sound_bundle(), BUNDLED[which[0] % len(BUNDLED)]: data[1:]} if data else sound_bundle()
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    if data and data[1:2] == b"\0" and which[0] % len(BUNDLED) == 0:
        write_yaml(folder / "ensemble.yaml", grown(data[2:], bundle_words()))
    elif which[:1] and which[0] % len(BUNDLED):
        (folder / "ensemble.yaml").write_bytes(sealed(files))
    with suppress(InputError):
        ensemble = Ensemble.load(folder)
        assert ensemble.other_versions is not None and not ensemble.seen_ids(["P1"]).any()
        ends = [len(member["weights"]) for member in ensemble.members]
        votes = ensemble._by_member(np.full((sum(ends), 2, 3), 0.5))
        said = ensemble.combine([votes])
        assert ((said.probability_P >= 0) & (said.probability_P <= 1)).all()
        ensemble.table(["a", "b", "c"], said, np.zeros(3, bool))
        list(ensemble.fold_models())


BUNDLED = ("ensemble.yaml", LEARNT, "oof.parquet", "trained_on.txt")


@cache
def sound_bundle() -> dict[str, bytes]:
    """Return the files of an ensemble of two clinical trials, by rank mean and temperature, from two folds."""
    trials, P = ["a" * 16, "b" * 16], 12
    oof_MP, labels_P = np.linspace(0.05, 0.95, 2 * P).reshape(2, P), np.arange(P) % 2
    procedure = asked("rank_mean")
    temperature = parse_part(calibrations, "temperature", "calibration")
    combiner = procedure.recipe.build().fit(oof_MP, labels_P)
    fitted = Fitted(combiner, calibrations["temperature"].build(temperature.options).fit(oof_MP[0], labels_P), 0.5, 0.0)
    table = pd.DataFrame({"label": labels_P, "fold": np.arange(P) // 2 % 2, "probability": oof_MP[0]})
    buffer = io.BytesIO()
    table.assign(**dict(zip(trials, oof_MP, strict=True))).to_parquet(buffer)
    names = {trial: [f"weights/{trial}-repeat-0-fold-{fold}.skops" for fold in range(2)] for trial in trials}
    described = {
        "format": FORMAT,
        "name": "rank_mean",
        "recipe": procedure.recipe.as_yaml(),
        "calibration": temperature.as_yaml(),
        "threshold": {"rule": "0.5", "value": 0.5},
        "refer": {"share": 0.0, "margin": 0.0},
        "error_rate": 0.1,
        "run": "seed",
        "cohort": {"name": "seed", "simulated": True, "hash": "0" * 16, "reference_date": "2020-01-01"},
        "folds": "0" * 16,
        "scores": {},
        "versions": {"torch": "2.0.0"},
        "members": [
            {"trial": trial, "weights": names[trial], "configuration": {"clinical": {"logistic": {"C": 1.0}}}}
            for trial in trials
        ],
    }
    files = {name: b"weights" for trial in trials for name in names[trial]} | {
        LEARNT: save(learnt_arrays(fitted)),
        "oof.parquet": buffer.getvalue(),
        "trained_on.txt": b"0123456789abcdef fedcba9876543210\n",
    }
    described["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return files | {"ensemble.yaml": yaml.safe_dump(described, sort_keys=False).encode()}


def sealed(files: Mapping[str, bytes]) -> bytes:
    """Return ensemble.yaml with the hashes of the other files."""
    described = yaml.safe_load(sound_bundle()["ensemble.yaml"])
    described["files"] = {name: hashlib.sha256(files[name]).hexdigest() for name in described["files"]}
    return yaml.safe_dump(described, sort_keys=False).encode()


def bundle_seeds() -> list[bytes]:
    files = sound_bundle()
    whole = [bytes([number]) + files[name] for number, name in enumerate(BUNDLED)]
    return [*whole, b"\0\0" + plan_of(yaml.safe_load(files["ensemble.yaml"]), bundle_words())]


@cache
def bundle_words() -> list[str]:
    held = yaml.safe_load(sound_bundle()["ensemble.yaml"])
    words = [
        *held,
        *held["files"],
        *held["files"].values(),
        *(key for value in held.values() if isinstance(value, dict) for key in value),
    ]
    words += ["trial", "weights", "configuration", *(member["trial"] for member in held["members"]), "2020-01-01"]
    words += [
        *calibrations.words(),
        *_with_options(combiners),
        *_with_options(clinical_models),
        *_with_options(encoders),
    ]
    return [*recipe_words(), *words, "clinical", "model", "../", "combiner.config", "combiner.sorted_MP_"]


def grown_or(name: str, data: bytes, words: Sequence[str]) -> Path:
    """Return a file of the bytes, or, where they begin with a NUL, of the YAML that the rest of them grows into."""
    if not data.startswith(b"\0"):
        return written(name, data)
    write_yaml(SCRATCH / name, grown(data[1:], words))
    return SCRATCH / name


def grown(data: bytes, words: Sequence[str]) -> Any:
    """Return plain values, of mappings and lists, that the bytes are the building plan of: a stack and eight orders."""
    stack: list[Any] = []
    left = iter(data)
    for order in left:
        count, given = order >> 3, next(left, 0)
        if order % 8 == 0:
            stack.append(words[(count * 256 + given) % len(words)])
        elif order % 8 == 1:
            stack.append(given - 128 if count % 2 else given * 10**count)
        elif order % 8 == 2:
            stack.append((given - 128) / 10 ** (count % 16))
        elif order % 8 == 3:
            stack.append((None, True, False, math.inf, math.nan, [], {}, "", date(2020, 1, 1))[given % 9])
        elif order % 8 == 4:
            stack, items = stack[: len(stack) - count], stack[len(stack) - count :]
            stack.append(items)
        elif order % 8 == 5:
            stack, items = stack[: len(stack) - 2 * count], stack[len(stack) - 2 * count :]
            keys = [key if isinstance(key, str | int | float) else "a key" for key in items[::2]]
            stack.append(dict(zip(keys, items[1::2], strict=False)))
        elif order % 8 == 6:
            stack.append(bytes([given, *islice(left, count)]).decode(errors="replace"))
        elif stack:
            stack.append(stack[-1 - given % len(stack)])
    return stack[-1] if stack else None


def plan_of(value: Any, words: Sequence[str]) -> bytes:
    """Return the bytes that grow into the value, as far as they can say it."""
    if isinstance(value, dict):
        inner = b"".join(plan_of(key, words) + plan_of(item, words) for key, item in value.items())
        return inner + bytes([len(value) << 3 | 5, 0])
    if isinstance(value, list):
        return b"".join(plan_of(item, words) for item in value) + bytes([len(value) << 3 | 4, 0])
    if value in words and isinstance(value, str):
        place = words.index(value)
        return bytes([place // 256 << 3, place % 256])
    if value is None or isinstance(value, bool):
        return bytes([3, {None: 0, True: 1, False: 2}[value]])
    if isinstance(value, int) and 0 <= value < 256:
        return bytes([1, value])
    if isinstance(value, float):
        return bytes([3 << 3 | 2, 128 + min(127, round(value * 1000))])
    text = str(value).encode()[:32] or b" "
    return bytes([len(text) - 1 << 3 | 6]) + text


def planned(seeds: Sequence[bytes], words: Sequence[str]) -> list[bytes]:
    """Return the seeds, and the plans of what they hold."""
    return [*seeds, *(b"\0" + plan_of(yaml.safe_load(seed), words) for seed in seeds)]


def written(name: str, data: bytes) -> Path:
    path = SCRATCH / name
    path.write_bytes(data)
    return path


def shipped_files(folder: str) -> list[bytes]:
    return [find_yaml(name, folder).read_bytes() for name in shipped(folder)]


@cache
def space_words() -> list[str]:
    families = (encoders, heads, aggregators, fusions, clinical_models, schedules)
    sections = [name for section in (Configuration, Model, Data, Training) for name in section.model_fields]
    keys = [
        "choose",
        "uniform",
        "log_uniform",
        "integer",
        "about",
        "grid",
        "suggested",
        "rows",
        "note",
        "configuration",
    ]
    return [*YAML, *keys, *sections, *(word for family in families for word in _with_options(family))]


@cache
def recipe_words() -> list[str]:
    return [*YAML, *recipes.KEYS, *recipes.SOURCES, *recipes.SEES, *recipes.METRICS, *_with_options(combiners)]


def _with_options(family: Family) -> list[str]:
    return [word for name in family.words() for word in (name, *(field.name for field in fields(family[name].options)))]


HARNESSES = {
    "csv": Harness(read_table, lambda: [table.encode() for table in TABLES], lambda: TABLE_WORDS),
    "layout": Harness(read_cohort_yaml, layout_seeds, layout_words),
    "space": Harness(read_space, lambda: planned(shipped_files(SHIPPED), space_words()), space_words),
    "recipe": Harness(read_recipe, lambda: planned(shipped_files(recipes.SHIPPED), recipe_words()), recipe_words),
    "bundle": Harness(read_bundle, bundle_seeds, bundle_words),
}
