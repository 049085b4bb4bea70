"""Metrics, health, logs and traces of a process, and the status page that serves them."""
