"""What the C library does with freed memory: kept for the next step, or given back to the system."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's mallopt


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let glibc keep what a step frees for the next one: fresh pages can cost a third of a step."""
    if (libc := _glibc()) is None:
        yield
        return
    libc.mallopt(M_TRIM_THRESHOLD, -1)  # never
    libc.mallopt(M_MMAP_MAX, 0)
    try:
        yield
    finally:
        libc.mallopt(M_TRIM_THRESHOLD, 2**26)  # what glibc itself settles on where large arrays come and go
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(M_MMAP_MAX, 65536)
        give_back()


def give_back() -> None:
    """Return freed memory to the system: holes that what was kept since has made too small for the next chunk."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
