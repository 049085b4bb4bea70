"""The definitions in a folder, for processes that live longer than the files stay as they are."""

from collections import deque
from datetime import UTC, datetime
from pathlib import Path

from connectors.campaigns.model.definition import Campaign, Definition, load
from streams.errors import DefinitionError

EXAMPLES = Path(__file__).parent / "examples"
"""The worked examples."""

OCCURRENCES = 8
"""Of a campaign that recurs, the newest so many are taken."""

_LISTED = 31
"""And so many are listed."""


class Definitions:
    """The definitions in a folder; a file is read again when it has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, tuple[tuple[int, int], Definition | str]] = {}

    def campaigns(self) -> list[Campaign]:
        """The campaigns, and of those that recur the newest occurrences that have begun."""
        found = []
        for _, definition in self._files():
            if isinstance(definition, Definition):
                found += _begun(definition, OCCURRENCES)
        return found

    def occurrences(self, name: str) -> list[Campaign]:
        """The newest occurrences of the campaign that recurs and of which one has a name, the newest
        first; none if it does not recur.
        """
        for _, definition in self._files():
            if isinstance(definition, Definition) and definition.recurrence:
                found = _begun(definition, _LISTED)
                if name in {each.name for each in found}:
                    return found[::-1]
        return []

    def wrong(self) -> list[str]:
        """The errors of files that are not definitions."""
        return [text for _, text in self._files() if isinstance(text, str)]

    def _files(self) -> list[tuple[Path, Definition | str]]:
        found = {}
        for path in sorted(self._folder.glob("*.yaml")):
            try:
                stat = path.stat()
            except OSError:  # removed meanwhile
                continue
            now = stat.st_mtime_ns, stat.st_size
            known = self._read.get(path)
            found[path] = known if known and known[0] == now else (now, self._load(path))
        self._read = found
        return [(path, definition) for path, (_, definition) in found.items()]

    def _load(self, path: Path) -> Definition | str:
        try:
            return load(path)
        except DefinitionError as error:
            return str(error).replace(str(self._folder), self._folder.name)


def _begun(definition: Definition, most: int) -> list[Campaign]:
    """The newest occurrences that have begun, or the campaign itself."""
    begun = deque(definition.occurrences(datetime.now(UTC)), most)
    return [each.campaign for each in begun or (definition,)]
