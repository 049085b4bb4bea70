"""The records of the topics between edge, translate and process. Pure."""
