"""The report of an audit: JSON lines, each with the hash of all lines up to it.

A line that is changed, removed or added breaks the chain. The chain has no key: keep the last hash,
which the command prints, where whoever keeps the report cannot change it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from streams.errors import ConfigurationError


def chained(entries: Iterable[tuple[str, object]]) -> Iterator[str]:
    """The lines of a report of entries, each with its name."""
    chain = ""
    for name, entry in entries:
        text = json.dumps({name: entry}, sort_keys=True)
        chain = _next(chain, text)
        yield f'{{"entry": {text}, "chain": "{chain}"}}'


def _next(chain: str, text: str) -> str:
    return hashlib.sha256(f"{chain}{text}".encode()).hexdigest()


def verify(path: Path) -> str:
    """The last hash of a report. Raises ``ConfigurationError`` at a line that breaks the chain."""
    chain = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            parsed = json.loads(line)
            text = json.dumps(parsed["entry"], sort_keys=True)
            given = parsed["chain"]
        except (ValueError, KeyError, TypeError):
            raise ConfigurationError(f"{path}:{number}: not a line of an audit's report") from None
        chain = _next(chain, text)
        if chain != given:
            raise ConfigurationError(
                f"{path}:{number}: the chain is broken here: the report was changed"
            )
    if not chain:
        raise ConfigurationError(f"{path} is empty")
    return chain
