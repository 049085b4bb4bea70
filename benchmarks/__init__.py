"""Speed, measured on verified runs only."""
