"""What an event is, and what becomes of it: identity, round, profile. Pure."""
