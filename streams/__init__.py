"""The stream processor: from the raw batch to the enriched round."""
