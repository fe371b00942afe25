"""Small tables that stand for huge ones are refused before they unfold; those of a run are read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lymphtune.errors import InputError
from lymphtune.runs import tables
from lymphtune.runs.run import read_table

SOME = pd.DataFrame({"trial": ["a", "b"], "score": [0.5, None], "n": [1, 2], "done": [True, False]})


def test_a_table_of_a_run_is_read(tmp_path: Path) -> None:
    SOME.to_parquet(tmp_path / "some.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "some.parquet"), SOME)
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "some.parquet", [("n", "==", 2)]), SOME[1:].reset_index(drop=True)
    )


def bombs() -> dict[str, tuple[pa.Table, str]]:
    zeros, one_text = np.zeros(3_000_000), pa.array(["x" * 100_000])
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, dtype=np.int32)), one_text)
    return {
        "rows": (pa.table({"a": zeros}), "3000000 rows of 1 columns, over"),
        "texts": (pa.table({"a": same}), "2.0 GB of text, over 1.1 GB"),
        "columns": (pa.table({f"c{number}": [0] for number in range(60)}), "1 rows of 60 columns, over"),
        "lists": (pa.table({"a": [[1, 2]]}), "column 'a' is of type list"),
        "another's type": (pa.table({"a": [{"b": 1}]}), "column 'a' is of type struct"),
    }


@pytest.mark.parametrize("name", bombs())
def test_a_table_that_would_unfold_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_VALUES", 2_000_000)
    monkeypatch.setattr(tables, "MOST_COLUMNS", 50)
    table, message = bombs()[name]
    pq.write_table(table, tmp_path / "bomb.parquet", compression="zstd")
    assert (tmp_path / "bomb.parquet").stat().st_size < 200_000
    with pytest.raises(InputError, match=rf"^[^\n]*bomb.parquet: {message}[^\n]*$"):
        read_table(tmp_path / "bomb.parquet")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(8) + b"PAR1", b"PAR1" + b"\xff" * 40 + b"PAR1"])
def test_what_is_no_table_is_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "none.parquet").write_bytes(data)
    with pytest.raises(InputError, match=r"^[^\n]*none.parquet: damaged, not a Parquet table[^\n]*$"):
        read_table(tmp_path / "none.parquet")
