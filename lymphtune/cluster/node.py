"""What the doctor of a cluster knows of one node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Node:
    """One node: what Ray says of it, and its own answers; a str in place of an answer is why there is none."""

    name: str
    gpus: float
    store_bytes: float
    answer: Mapping[str, Any] | str
    written: str | None = None  # why it could not write into the storage
    read_back: bool | None = None  # by the driver; None: there was no storage to check
    torch_gpus: Sequence[Mapping[str, Any]] | str | None = None
    skew_s: float | None = None  # its clock minus the driver's
    error_s: float = 0.0  # half the round trip: `skew_s` is no better known than this
