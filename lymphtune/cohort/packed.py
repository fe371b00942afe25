"""A cohort packed in one Parquet file: one row per picture, with its patient's attributes and its encoded bytes."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lymphtune import console
from lymphtune.cohort.ages import age_note
from lymphtune.cohort.attributes import STANDARD, Attribute, attributes_of_yaml
from lymphtune.cohort.blocks import CohortSurvey
from lymphtune.cohort.clinical import ATTRIBUTES, DAYS_PER_YEAR, MAX_AGE_YEARS, id_problem
from lymphtune.cohort.cohort import COLUMNS, GROUP, AgesAt, Cohort
from lymphtune.cohort.depth import Depth
from lymphtune.cohort.folders import composed
from lymphtune.cohort.metadata import without_metadata
from lymphtune.cohort.pictures import MAX_ENCODED_BYTES, Encoded, check_bag_depth, decode
from lymphtune.cohort.pseudonyms import Pseudonyms, pseudonymised
from lymphtune.cohort.study import natural_key, survey_study
from lymphtune.errors import InputError, reason
from lymphtune.files import atomic_file
from lymphtune.runs.tables import is_text, text_bytes

FORMAT = 1
# key of the description (JSON) in the schema's metadata
METADATA = b"lymphtune"
# encoded bytes of a row group, which is held in memory while writing
GROUP_BYTES = 8 * 2**20
MAX_GROUP_BYTES = 2**30
MAX_GROUP_ROWS = 2**20
# pictures of a cohort
MAX_ROWS = 2**26
# pictures held in memory by each thread while reading
READ_ROWS = 64
# exceptions that pyarrow raises on damaged files
DAMAGED = (pa.ArrowException, OSError, ValueError)

SCHEMA = pa.schema(
    {
        "patient": pa.string(),
        "label": pa.int64(),
        "sex": pa.string(),
        "age_years": pa.float64(),
        "lymphocytes_g_per_l": pa.float64(),
        "picture": pa.string(),
        "encoded": pa.binary(),
    }
)


@dataclass(frozen=True)
class PackedDescription:
    """Description of a packed cohort; missing: attributes may have missing values; grouped: patients have groups."""

    name: str
    reference_date: date
    simulated: bool = False
    attributes: tuple[Attribute, ...] = STANDARD
    missing: bool = False
    grouped: bool = False
    ages: AgesAt = "reference_date"

    @property
    def extra_columns(self) -> dict[str, pa.DataType]:
        """The patient columns beyond those of every cohort, with their types."""
        own = [attribute for attribute in self.attributes if attribute.name not in SCHEMA.names]
        types = {attribute.name: pa.float64() if attribute.levels is None else pa.string() for attribute in own}
        return types | ({GROUP: pa.string()} if self.grouped else {})

    def as_json(self) -> dict[str, Any]:
        """The description for JSON, without values that equal the study's."""
        given: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "reference_date": self.reference_date.isoformat(),
            "simulated": self.simulated,
        }
        if self.attributes != STANDARD:
            given["attributes"] = [attribute.as_yaml() for attribute in self.attributes]
        if self.ages != "reference_date":
            given["ages"] = self.ages
        return given | {name: True for name in ("missing", "grouped") if getattr(self, name)}


@dataclass(frozen=True)
class RowGroup:
    """`n_pictures` rows of a packed file, from row `first` of one row group, read in batches."""

    path: Path
    index: int
    n_pictures: int
    first: int = 0

    def __len__(self) -> int:
        return self.n_pictures

    def read(self) -> Iterator[Encoded]:
        columns = ["patient", "picture", "encoded"]
        try:
            # pictures are read dictionary-encoded: a hostile file may repeat a large one in many rows
            with pq.ParquetFile(self.path, read_dictionary=["encoded"], page_checksum_verification=True) as file:
                groups = file.iter_batches(READ_ROWS, [self.index], columns, use_threads=False)
                rows = (row for batch in groups for row in _row_dicts(batch))
                for row in islice(rows, self.first, self.first + self.n_pictures):
                    where = f"{self.path}, {row['patient']}/{row['picture']}"
                    if row["encoded"] is None or len(row["encoded"]) > MAX_ENCODED_BYTES:
                        raise InputError(f"{where}: no picture, or an oversized one; pack the cohort again")
                    yield Encoded(where, row["picture"], row["encoded"])
        except DAMAGED as error:
            raise _damaged(self.path, error) from error


def _row_dicts(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    for row in range(batch.num_rows):
        yield {name: batch.column(name)[row].as_py() for name in batch.schema.names}


def pack(folder: Path, out: Path, reference_date: date, pseudonyms: Pseudonyms | None = None) -> None:
    """Write the cohort of a folder to the Parquet file `out`.

    The pictures' encoded bytes are kept. Dates are replaced by ages, at the examination or at `reference_date`. Every
    picture is decoded once as a check. With pseudonyms, which replace ids, metadata is removed from the pictures.
    Raises InputError as reading the folder does.
    """
    surveyed = survey_study(folder, reference_date)
    if pseudonyms is not None:
        surveyed = pseudonymised(surveyed, pseudonyms)
    for note in filter(None, [*surveyed.notes, age_note(surveyed)]):
        console.say(f"{surveyed.name}: {note}")
    patients, sources = surveyed.patients, surveyed.sources(range(len(surveyed)))

    def pictures() -> Iterator[tuple[str, str, bytes]]:
        for patient, source in zip(patients["patient"], sources, strict=True):
            for where, name, data in source.read():
                bare = data if pseudonyms is None else without_metadata(data, where)
                yield patient, name, bare

    checked = console.each(pictures(), "Packing pictures", sum(map(len, sources)))
    missing = bool(patients[[attribute.name for attribute in surveyed.attributes]].isna().any(axis=None))
    description = PackedDescription(
        surveyed.name,
        reference_date,
        surveyed.simulated,
        surveyed.attributes,
        missing,
        GROUP in patients.columns,
        surveyed.ages,
    )
    write_packed(out, patients, checked, description)


def write_packed(
    out: Path, patients: pd.DataFrame, pictures: Iterable[tuple[str, str, bytes]], description: PackedDescription
) -> None:
    """Write patients (columns ATTRIBUTES and `about.more`, in order of id) and their pictures to the file `out`.

    `pictures` yields a patient's id, a picture's name and its encoded bytes, in the order of the patients. About
    GROUP_BYTES are held in memory at a time. Raises InputError on a picture that cannot be decoded.
    """
    if out.suffix.lower() != ".parquet":
        raise InputError(f"{out}: a packed cohort is a .parquet file; name it so")
    own = [*ATTRIBUTES, *description.extra_columns]
    attributes = {row[0]: row for row in patients[own].itertuples(index=False, name=None)}
    fields = [pa.field(name, kind) for name, kind in description.extra_columns.items()]
    at = SCHEMA.get_field_index("picture")
    schema = pa.schema([*list(SCHEMA)[:at], *fields, *list(SCHEMA)[at:]])
    schema = schema.with_metadata({METADATA: json.dumps(description.as_json()).encode()})
    # encoded pictures cannot be compressed further
    plain = [name for name in schema.names if name != "encoded"]
    compression = {name: "zstd" for name in plain} | {"encoded": "none"}
    options = {"compression": compression, "use_dictionary": plain, "write_statistics": plain}
    with atomic_file(out) as scratch, pq.ParquetWriter(scratch, schema, write_page_checksum=True, **options) as writer:
        for rows in _row_groups(pictures, attributes):
            columns = [
                pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _row_groups(
    pictures: Iterable[tuple[str, str, bytes]], attributes: dict[str, tuple[Any, ...]]
) -> Iterator[list[tuple[Any, ...]]]:
    rows, n_bytes = [], 0
    of, deep = "", list[tuple[str, Depth]]()
    for patient, name, data in pictures:
        if patient != of:
            check_bag_depth(deep)
            of, deep = patient, []
        if depth := decode(data, f"{patient}/{name}").depth:
            deep.append((f"{patient}/{name}", depth))
        rows.append((*attributes[patient], name, data))
        n_bytes += len(data)
        if n_bytes >= GROUP_BYTES:
            yield rows
            rows, n_bytes = [], 0
    check_bag_depth(deep)
    if rows:
        yield rows


def read_packed(path: Path, reference_date: date | None) -> Cohort:
    """Load a packed cohort with ages at `reference_date`, or as packed if that is None.

    Raises InputError if the file is damaged, was not written by `write_packed` or holds values out of range.
    """
    return survey_packed(path, reference_date).load()


def survey_packed(path: Path, reference_date: date | None) -> CohortSurvey:
    """Read a packed cohort without its pictures; raises InputError as `read_packed` does."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            description = _read_description(file.schema_arrow, path)
            _check_types(file.schema_arrow, description, path)
            groups = _groups(file.metadata, path)
            _check_texts(path, [*ATTRIBUTES, *description.extra_columns, "picture"], len(groups))
            bags = _patient_blocks(file, groups, [*ATTRIBUTES, *description.extra_columns, "picture"])
            patients = pd.concat([_patients(rows, description, path) for rows in bags], ignore_index=True)
    except DAMAGED as error:
        raise _damaged(path, error) from error
    _check(patients, ~patients.duplicated("patient"), "rows in two places", path)
    if patients["patient"].tolist() != sorted(patients["patient"], key=natural_key):
        raise InputError(f"{path}: patients are not in order of id; pack the cohort again")
    for name in {"patient", GROUP} & set(patients.columns):
        patients[name] = patients[name].map(composed)
    _check(patients, ~patients.duplicated("patient"), "another one with the same characters, coded otherwise", path)
    wanted = reference_date or description.reference_date
    if description.ages == "reference_date":
        patients["age_years"] += (wanted - description.reference_date).days / DAYS_PER_YEAR
    aged = patients["age_years"].between(0, MAX_AGE_YEARS) | patients["age_years"].isna()
    if not aged.all():
        raise InputError(
            f"{path}: patient {patients.loc[~aged, 'patient'].iloc[0]!r} has an age outside 0-{MAX_AGE_YEARS} years at "
            f"{wanted}; count ages to another day with --reference-date ({description.reference_date} when it "
            "was packed), or pack the cohort with the day of each examination in its table"
        )
    starts = [0, *patients["n_cells"].cumsum().tolist()]

    def sources(rows: range) -> list[RowGroup]:
        return _row_range(groups, starts[rows.start], starts[rows.stop])

    return CohortSurvey(
        description.name,
        patients,
        sources,
        wanted,
        description.simulated,
        attributes=description.attributes,
        ages=description.ages,
    )


def _patient_blocks(file: pq.ParquetFile, groups: list[RowGroup], columns: list[str]) -> Iterator[pd.DataFrame]:
    """Yield rows without pictures, one row group at a time; a patient that spans two groups is yielded once."""
    held = pd.DataFrame()
    for group in groups:
        rows = pd.concat([held, file.read_row_group(group.index, columns).to_pandas()], ignore_index=True)
        last = int(np.flatnonzero(rows["patient"] != rows["patient"].shift())[-1])
        if last:
            yield rows[:last]
        held = rows[last:]
    yield held.reset_index(drop=True)


def _row_range(groups: list[RowGroup], first: int, stop: int) -> list[RowGroup]:
    """The row groups, or parts of them, that hold the file's rows from `first` up to and excluding `stop`."""
    parts, before = [], 0
    for group in groups:
        low, high = max(first - before, 0), min(stop - before, len(group))
        if low < high:
            parts.append(replace(group, first=low, n_pictures=high - low))
        before += len(group)
    return parts


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a Parquet file, or a damaged one ({reason(error)}); pack the cohort again")


def _read_description(schema: pa.Schema, path: Path) -> PackedDescription:
    """Parse the description in the schema's metadata; raises InputError if it is missing or invalid."""
    wrong = f"{path}: not a cohort packed by lymphtune; make one with lymphtune pack"
    try:
        found = json.loads((schema.metadata or {})[METADATA])
        version, name, simulated = found["format"], found["name"], found["simulated"]
        reference_date = date.fromisoformat(found["reference_date"])
        attributes = attributes_of_yaml(found["attributes"]) if "attributes" in found else STANDARD
        missing, grouped = found.get("missing") is True, found.get("grouped") is True
        ages: AgesAt = "examination" if found.get("ages") == "examination" else "reference_date"
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(wrong) from error
    if version != FORMAT:
        raise InputError(f"{path}: packed in format {version!r}, this version reads {FORMAT}; pack the cohort again")
    if not (isinstance(name, str) and len(name) <= 255 and name.isprintable() and isinstance(simulated, bool)):
        raise InputError(wrong)
    return PackedDescription(name, reference_date, simulated, attributes, missing, grouped, ages)


def _check_types(schema: pa.Schema, description: PackedDescription, path: Path) -> None:
    expected = [*SCHEMA, *(pa.field(name, kind) for name, kind in description.extra_columns.items())]
    names = sorted({field.name for field in expected} - set(schema.names))
    if names:
        raise InputError(f"{path}: no column {', '.join(names)}; pack the cohort again")
    for field in expected:
        if schema.names.count(field.name) > 1 or schema.field(field.name).type != field.type:
            raise InputError(f"{path}: column {field.name} is not one of type {field.type}; pack the cohort again")


def _groups(metadata: pq.FileMetaData, path: Path) -> list[RowGroup]:
    groups = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if group.total_byte_size > MAX_GROUP_BYTES:
            raise InputError(
                f"{path}: row group {index} takes {console.size(group.total_byte_size)}, over "
                f"{console.size(MAX_GROUP_BYTES)}; pack the cohort again"
            )
        if group.num_rows > MAX_GROUP_ROWS:
            raise InputError(
                f"{path}: {group.num_rows} pictures in row group {index}, over {MAX_GROUP_ROWS}; pack the cohort again"
            )
        if group.num_rows:
            groups.append(RowGroup(path, index, group.num_rows))
    if not groups:
        raise InputError(f"{path}: no picture in it; pack the cohort again")
    if metadata.num_rows > MAX_ROWS:
        raise InputError(f"{path}: {metadata.num_rows} pictures, over {MAX_ROWS}; pack a part of the cohort")
    return groups


def _check_texts(path: Path, columns: list[str], n_groups: int) -> None:
    """Raise InputError if texts would take gigabytes when expanded per row; row groups are read one by one."""
    with pq.ParquetFile(path, read_dictionary=columns, page_checksum_verification=True) as file:
        texts = [field.name for field in file.schema_arrow if field.name in columns and is_text(field.type)]
        for index in range(n_groups):
            if text_bytes(file.read_row_group(index, texts).columns) > MAX_GROUP_BYTES:
                raise InputError(f"{path}: texts of over {console.size(MAX_GROUP_BYTES)}; pack the cohort again")


def _patients(rows: pd.DataFrame, description: PackedDescription, path: Path) -> pd.DataFrame:
    """One row per patient from one row per picture (columns COLUMNS and `description.extra_columns`).

    Raises InputError on invalid or inconsistent values.
    """
    own = [*ATTRIBUTES, *description.extra_columns]
    may_miss = (
        [attribute.name for attribute in description.attributes if attribute.levels is None]
        if description.missing
        else []
    )
    absent = {"age_years", "lymphocytes_g_per_l"} - {attribute.name for attribute in description.attributes}
    _check(rows, rows.drop(columns=[*may_miss, *absent]).notna().all(axis=1), "a missing value", path)
    for name, fits, problem in _RANGES:
        _check(rows, rows[name].map(fits) | rows[name].isna(), problem, path)
    for attribute in description.attributes:
        if attribute.levels is None:
            fine = np.isfinite(rows[attribute.name]) & ((rows[attribute.name] > 0) | (not attribute.log))
            _check(rows, fine | rows[attribute.name].isna(), f"no proper {attribute.name}", path)
    _check(rows, ~rows.duplicated(["patient", "picture"]), "two pictures of one name", path)
    starts = rows["patient"] != rows["patient"].shift()
    patients = rows[starts].reset_index(drop=True)
    first = patients.loc[starts.cumsum() - 1, own].reset_index(drop=True)
    given = rows[own].reset_index(drop=True)
    same = ((given == first) | (given.isna() & first.isna())).all(axis=1)
    _check(rows, same.set_axis(rows.index), "attributes that differ from picture to picture", path)
    n_cells = np.bincount(starts.cumsum() - 1)
    return patients.assign(n_cells=n_cells.astype(np.int64))[[*COLUMNS, *description.extra_columns]]


_RANGES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("patient", lambda text: id_problem(text) is None, "an id that cannot name a folder"),
    ("label", lambda label: label in (-1, 0, 1), "a label other than 0, 1 and -1"),
    ("sex", lambda sex: sex in ("", "F", "M"), "a sex other than F, M and nothing"),
    ("age_years", lambda age: 0 <= age <= MAX_AGE_YEARS, "an age outside 0-120 years"),
    ("lymphocytes_g_per_l", lambda count: 0 < count < np.inf, "a lymphocyte count that is not above 0"),
    ("picture", lambda name: 0 < len(name) <= 255 and name.isprintable(), "a picture without a proper name"),
)


def _check(table: pd.DataFrame, fine: pd.Series, problem: str, path: Path) -> None:
    if not fine.all():
        patient = str(table.loc[~fine.astype(bool), "patient"].iloc[0])[:100]
        raise InputError(f"{path}: patient {patient!r} has {problem}; correct it and pack the cohort again")
