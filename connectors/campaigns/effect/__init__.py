"""Whether a campaign earned anything: groups, statistics, and how many players it takes to tell."""
