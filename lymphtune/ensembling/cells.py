"""cells.parquet: an ensemble's prediction for each cell, written block by block.

Shapes: C cells of a block.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lymphtune.cohort.blocks import Block

SCHEMA = pa.schema(
    {
        "patient": pa.string(),
        "cell": pa.int64(),
        "picture": pa.string(),
        "probability": pa.float64(),
        "weight": pa.float64(),
    }
)


@contextmanager
def cells_file(path: Path, about: Mapping[str, str]) -> Iterator[Callable[[Block, np.ndarray], None]]:
    """Yield a function that appends a block's cells with their probability and weight [2, C], one row group each."""
    with pq.ParquetWriter(path, SCHEMA.with_metadata(dict(about))) as writer:

        def append(block: Block, of_cells_2C: np.ndarray) -> None:
            counts = block.cohort.patients["n_cells"].to_numpy()
            cell_C = np.concatenate([np.arange(count) for count in counts])
            columns = [np.repeat(block.cohort.ids, counts), cell_C, block.names, *of_cells_2C]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=writer.schema))

        yield append
