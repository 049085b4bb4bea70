"""Kafka clients, topics and schema ids."""
