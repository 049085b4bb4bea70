from collections.abc import Sequence

from streams.formats.validation import Invalid, Item
from streams.records.staged_chunk import PackedItem

class Plain:
    def __init__(self, id_lead: str, key_lead: str, partitions: int) -> None: ...
    def stage(
        self, items: Sequence[Item | Invalid], position: int, staged: dict[int, list[PackedItem]]
    ) -> int: ...
