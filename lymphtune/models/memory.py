"""Control of the C library's heap: keep freed memory for the next training step, or return it to the system."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's mallopt


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Let glibc keep memory that a step frees: mapping new pages can take a third of the next step's time."""
    if (libc := _glibc()) is None:
        yield
        return
    libc.mallopt(M_TRIM_THRESHOLD, -1)  # never trim
    libc.mallopt(M_MMAP_MAX, 0)
    try:
        yield
    finally:
        libc.mallopt(M_TRIM_THRESHOLD, 2**26)  # the value that glibc adapts to for large arrays
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(M_MMAP_MAX, 65536)
        trim_heap()


def trim_heap() -> None:
    """Return freed memory to the system, such as holes in the heap that are too small for the next chunk."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
