"""``roundhouse doctor``: checks a set-up and reports how to correct errors. It changes nothing."""
