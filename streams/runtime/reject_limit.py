"""The limit of unexpected rejects: above it, edge and worker run different versions."""

from streams.errors import TooManyRejects
from streams.records.topics import RAW, REJECTS


class RejectLimit:
    """The share of unexpected rejects among recent items; older items count less and less."""

    ITEMS = 2_000

    def __init__(self, largest: float) -> None:
        self._largest = largest
        self._items = 0
        self._rejects = 0

    def add(self, items: int, rejects: int) -> None:
        """Raises ``TooManyRejects`` above the limit."""
        self._items += items
        self._rejects += rejects
        if self._items < self.ITEMS:
            return
        if self._rejects > self._largest * self._items:
            raise TooManyRejects(
                f"{self._rejects} of the last {self._items} items were accepted by the edge and "
                "refused here: edge and worker run different versions, or something else writes to "
                f"{RAW}. Deploy the same version of both; the refused items are in {REJECTS}. "
                "ROUNDHOUSE_REJECT_SHARE_MAX=1 turns this limit off."
            )
        self._items, self._rejects = self._items // 2, self._rejects // 2
