"""Kafka on this machine: the official jars where there is a JDK, an in-memory cluster elsewhere."""
