"""The yardstick job as users of other stream processors write it."""
