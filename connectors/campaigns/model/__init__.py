"""What a definition in YAML can say, as pydantic models with clear errors."""
