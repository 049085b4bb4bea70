"""``roundhouse rejects``: finds refused items, and replays them after their cause is removed."""
