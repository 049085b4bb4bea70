"""What a process counts and measures of itself, and the page on which it serves it."""
