"""Ending a process at once when going on could lose or double something."""

import logging
import os

log = logging.getLogger(__name__)

EXIT_FAILED = 70


def fail_stop(error: BaseException) -> None:
    """Logs ``error`` and ends the process without any shutdown path.

    Faust's would commit offsets on the way down, and a thread's exception would end only the thread.
    """
    log.critical("stopping: %s: %s", type(error).__name__, error, exc_info=error)
    logging.shutdown()
    os._exit(EXIT_FAILED)
