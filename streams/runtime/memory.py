"""Memory management of a worker: Python's garbage collector and glibc's allocator."""

import ctypes
import gc

COLLECT_EVERY_S = 30.0

_C = ctypes.CDLL(None)
_TRIM, _TUNE = getattr(_C, "malloc_trim", None), getattr(_C, "mallopt", None)
"""Functions of glibc; None with other C libraries, which keep their defaults."""
_M_ARENA_MAX = -8
_ARENAS = 2


def tune() -> None:
    """Limits the number of heaps, since each heap keeps its freed memory. Call it before threads
    start.

    Collections run only in :func:`give_back`: a chunk makes ten thousands of objects and hardly a
    cycle.
    """
    if _TUNE is not None:
        _TUNE(_M_ARENA_MAX, _ARENAS)
    gc.disable()


def give_back() -> None:
    """Collects cycles, and returns freed memory to the operating system."""
    gc.collect()
    if _TRIM is not None:
        _TRIM(0)
