"""A seeded casino day: generated, posted over HTTP, shown as tables."""
