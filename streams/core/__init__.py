"""Events and what the stages compute from them: identity, rounds, profiles, outcomes. Pure."""
