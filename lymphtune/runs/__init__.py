"""A run on disk: its folder, its tables and ledgers, and the storage that other machines see it in."""

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    """Return Run, which was here in version 0.1."""
    if name != "Run":
        raise AttributeError(f"module 'lymphtune.runs' has no attribute '{name}'")
    from lymphtune.runs.run import Run

    warnings.warn("lymphtune.runs.Run is lymphtune.runs.run.Run", DeprecationWarning, stacklevel=2)
    return Run
