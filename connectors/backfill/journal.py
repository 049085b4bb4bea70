"""What a backfill has done: a file that a killed process leaves behind, and the next one continues."""

import fcntl
from collections.abc import Mapping
from pathlib import Path

import msgspec

from connectors.local.files import replace_file
from streams.errors import ConfigurationError


class Progress(msgspec.Struct):
    """What became of the first ``entries`` entries of a file, all of which are settled.

    ``unreadable`` entries were not written; the others hold ``received`` items, each of which is in one
    of the next counts. ``examples`` are the first refused ones, in words. ``outcomes`` are the offsets,
    by partition, from which the outcomes of all later entries can be read.
    """

    name: str
    lead: str
    entries: int = 0
    unreadable: int = 0
    received: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    examples: list[str] = []
    outcomes: dict[int, int] = {}
    complete: bool = False

    @property
    def refused(self) -> int:
        """The items that were not taken."""
        return self.unreadable + self.conflict + self.rejected

    def add(self, counts: Mapping[str, int]) -> None:
        """Adds to the counts."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)


class _File(msgspec.Struct):
    """``line`` identifies the cluster and its topics."""

    line: str
    jobs: dict[str, Progress] = {}


class Journal:
    """The journal in a file, which it locks. Every change is on the disk when it returns."""

    def __init__(self, path: Path, line: str) -> None:
        """Raises ``ConfigurationError`` if another process uses the file, or it is of another line."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = open(path.with_name(f"{path.name}.lock"), "w")  # noqa: SIM115  # closed by close
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file = self._read(line)
        except BlockingIOError:
            self._lock.close()
            raise ConfigurationError(
                f"another backfill uses {path}; wait for it, or give this one its own --state"
            ) from None
        except BaseException:
            self._lock.close()
            raise

    def _read(self, line: str) -> _File:
        if not self.path.exists():
            return _File(line)
        try:
            found = msgspec.json.decode(self.path.read_bytes(), type=_File)
        except ValueError as error:
            raise ConfigurationError(f"{self.path} is no state of a backfill: {error}") from None
        if found.line != line:
            raise ConfigurationError(
                f"{self.path} is of another line ({found.line}, this one is {line}); give --state"
            )
        return found

    def close(self) -> None:
        """Releases the file."""
        self._lock.close()

    def progress(self, job: str, name: str, lead: str) -> Progress:
        """The progress of a job, new or as it was left."""
        return self._file.jobs.setdefault(job, Progress(name, lead))

    def save(self) -> None:
        """Writes the progress of all jobs."""
        replace_file(self.path, msgspec.json.format(msgspec.json.encode(self._file)))
