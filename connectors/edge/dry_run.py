"""The answer to a dry run."""

from typing import Any

from streams.core.event import Batch
from streams.stages.preview import preview


def dry_run(batch: Batch, body: bytes) -> dict[str, Any]:
    """What the line would make of a request, whose outer form must be right."""
    items = preview(batch, body)
    invalid = sum(1 for item in items if item.errors)
    return {
        "batch_id": batch.batch_id,
        "received": len(items),
        "valid": len(items) - invalid,
        "invalid": invalid,
        "items": items,
    }
