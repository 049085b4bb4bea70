"""Ends a process at once where going on could lose or double records."""

import logging
import os
import signal
import threading

from streams.errors import ConfigurationError

log = logging.getLogger(__name__)

EXIT_FAILED = 70
"""A failure that a restart may mend."""
EXIT_CONFIGURATION = 78
"""A wrong setting (``EX_CONFIG`` of sysexits.h): a restart would not help."""


def fail_stop(error: BaseException) -> None:
    """Logs ``error`` and ends the process without any shutdown path.

    Faust's shutdown would commit offsets, and an exception in a thread would end only the thread.
    """
    log.critical("stopping: %s: %s", type(error).__name__, error, exc_info=error)
    logging.shutdown()
    os._exit(EXIT_CONFIGURATION if isinstance(error, ConfigurationError) else EXIT_FAILED)


def end_with_status_0_on_signals() -> None:
    """SIGINT and SIGTERM no longer end the process; for a process whose server stops on them.

    uvicorn stops on these signals and then raises them again. With their default handlers, that would
    skip the clean-up after the server and end the process with the signal instead of status 0.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)


def told_to_stop() -> threading.Event:
    """An event that SIGINT and SIGTERM set."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


def end_within(within_s: float) -> None:
    """Ends the process after a time, if it has not ended by then. Called where a stop begins.

    That is no worse than a crash: what was not acknowledged or committed is done again.
    """

    def end() -> None:
        log.critical("the stop is not complete after %.0f s: ending as after a crash", within_s)
        logging.shutdown()
        os._exit(EXIT_FAILED)

    timer = threading.Timer(within_s, end)
    timer.daemon = True
    timer.start()
