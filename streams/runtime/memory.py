"""What a worker does about memory: when Python collects garbage, and what glibc keeps."""

import ctypes
import gc

COLLECT_EVERY_S = 30.0

_C = ctypes.CDLL(None)
_TRIM, _TUNE = getattr(_C, "malloc_trim", None), getattr(_C, "mallopt", None)
"""glibc's; None on other C libraries, which then do as they do."""
_M_ARENA_MAX = -8
_ARENAS = 2


def tune() -> None:
    """Before threads start: few heaps, since each thread's own would keep what it has freed.

    Collections are left to :func:`give_back`: a chunk makes ten thousands of objects, hardly a cycle.
    """
    if _TUNE is not None:
        _TUNE(_M_ARENA_MAX, _ARENAS)
    gc.disable()


def give_back() -> None:
    """Collects cycles, and gives back to the system what threads have freed."""
    gc.collect()
    if _TRIM is not None:
        _TRIM(0)
