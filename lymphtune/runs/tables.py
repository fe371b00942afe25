"""Parquet tables, whoever wrote them: refused before they unfold to more than a computer holds.

A few kilobytes of Parquet can stand for any number of rows, or of copies of one long text.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lymphtune import console
from lymphtune.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MOST_VALUES = 200_000_000  # rows x columns of one table: 1.6 GB of numbers
MOST_COLUMNS = 10_000
MOST_BYTES = 2**30  # of its texts, and of its columns as they are encoded


def check_table(path: Path) -> None:
    """Raise InputError where the table is too large, or has columns other than numbers, words, texts and times.

    Raises what pyarrow does where it is no Parquet table.
    """
    import pyarrow.parquet as pq

    check_file(path)
    with pq.ParquetFile(path) as file:
        metadata, schema = file.metadata, file.schema_arrow
        check_counts(metadata, path)
        texts = [field.name for field in schema if is_text(field.type)]
        if strange := [field.name for field in schema if not (is_text(field.type) or _is_plain(field.type))]:
            raise InputError(f"{path}: column {strange[0][:100]!r} is of type {schema.field(strange[0]).type}")
    if texts:
        found = pq.read_table(path, columns=texts, read_dictionary=texts, use_threads=False)
        if (n_bytes := text_bytes(found.columns)) > MOST_BYTES:
            raise InputError(f"{path}: {console.size(n_bytes)} of text, over {console.size(MOST_BYTES)}")


def check_file(path: Path) -> None:
    """Raise FileNotFoundError where there is no file, a pipe in its place included: it would be waited for."""
    if not path.is_file():
        raise FileNotFoundError(path)


def check_counts(metadata: "pq.FileMetaData", path: Path) -> None:
    """Raise InputError where there are too many rows, columns or bytes for a table of numbers and words."""
    rows, columns = metadata.num_rows, metadata.num_columns
    if columns > MOST_COLUMNS or rows * columns > MOST_VALUES:
        raise InputError(f"{path}: {rows} rows of {columns} columns, over {MOST_VALUES} values")
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    if (n_bytes := sum(group.total_byte_size for group in groups)) > MOST_BYTES:
        raise InputError(f"{path}: {console.size(n_bytes)}, over {console.size(MOST_BYTES)}")


def text_bytes(columns: Iterable["pa.ChunkedArray"]) -> int:
    """Return how many bytes texts take once each row has its own; columns: read as dictionaries, or as they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = 0
    for chunk in (chunk for column in columns for chunk in column.chunks):
        lengths = pc.binary_length(chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk)
        if pa.types.is_dictionary(chunk.type):
            lengths = lengths.take(chunk.indices)
        total += pc.sum(lengths.cast("int64")).as_py() or 0
    return total


def is_text(kind: Any) -> bool:
    import pyarrow.types as types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(inner) or types.is_large_string(inner) or types.is_binary(inner))


def _is_plain(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(
        types.is_floating(kind)
        or types.is_integer(kind)
        or types.is_boolean(kind)
        or types.is_temporal(kind)
        or types.is_null(kind)
    )
