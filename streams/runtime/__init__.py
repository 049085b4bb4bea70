"""The stages on Kafka, in Faust."""
