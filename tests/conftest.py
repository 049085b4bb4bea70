"""Fixtures and settings that all tests share."""

from hypothesis import settings

# No deadline: on a loaded machine a slow example is not a failure. Derandomised: CI repeats exactly.
settings.register_profile("default", deadline=None, derandomize=True, max_examples=80)
settings.load_profile("default")
