"""The line on one machine: its processes, their ports, a local Kafka."""
