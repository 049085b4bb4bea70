"""``roundhouse doctor``: checks a set-up and says how to mend errors. It writes nothing."""
