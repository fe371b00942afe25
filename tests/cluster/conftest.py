"""Searches in processes of their own: one that nothing happens to, and one to be harmed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.processes import Search


@pytest.fixture(scope="session")
def undisturbed(_tiny_cohort_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Search:
    """The finished search that others have to end like."""
    search = Search(_tiny_cohort_files, tmp_path_factory.mktemp("undisturbed"))
    try:
        ended = search.start().end()
        assert ended.code == 0, ended.err
    finally:
        search.clear()
        shutil.rmtree(search.scratch)
    statuses = set(search.table().query("kind == 'network'")["status"])
    assert statuses == {"done", "stopped"}
    return search


@pytest.fixture
def search(_tiny_cohort_files: Path, tmp_path: Path) -> Iterator[Search]:
    search = Search(_tiny_cohort_files, tmp_path / "runs")
    try:
        yield search
    finally:
        search.clear()
        shutil.rmtree(search.scratch)
