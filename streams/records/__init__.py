"""What stands in the topics between edge, translate and process. Pure."""
