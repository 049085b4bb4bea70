from collections.abc import Callable, Collection
from typing import Any

def encoder(
    schema: dict[str, Any], *, attributes: Collection[str] | None = None
) -> Callable[[Any], bytes]: ...
def joined(head: bytes, number: int, tails: list[bytes]) -> list[bytes]: ...
