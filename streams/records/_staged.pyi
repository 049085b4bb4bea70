from collections.abc import Callable

from streams.records.staged_chunk import StagedItem

def unpack(
    packed: bytes, read_item: Callable[[bytes], StagedItem]
) -> tuple[list[StagedItem], list[StagedItem]] | None: ...
