"""The two stages as functions of records and state: translate, process. Pure."""
