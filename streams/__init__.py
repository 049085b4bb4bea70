"""What happens to an event: from the raw batch to the enriched round."""
