"""Kafka clients, topics, lag and schema ids."""
