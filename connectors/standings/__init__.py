"""``roundhouse standings``: writes the standings of campaigns to a topic while they run."""
