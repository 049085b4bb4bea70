"""The HTTP edge: takes what platforms post and writes raw batches to Kafka."""
