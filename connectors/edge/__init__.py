"""The HTTP edge: receives the platforms' requests and writes raw batches to Kafka."""
