"""One folder for MLflow whose tables are made once: that takes seconds."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def _mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lymphtune.searching.trackers.checks import check_trackers

    pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("mlflow") / "new" / "folder"
    check_trackers(str(folder), None, None)
    return folder / "mlflow.db"


@pytest.fixture
def mlflow_folder(_mlflow_database: Path, tmp_path: Path) -> Path:
    """A folder of its own that passed the checks, and holds no experiments yet."""
    folder = tmp_path / "tracked"
    folder.mkdir()
    shutil.copy(_mlflow_database, folder)
    return folder
