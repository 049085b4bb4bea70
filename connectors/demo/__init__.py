"""A casino day to try the line with: made from a seed, fed over HTTP, shown as tables."""
