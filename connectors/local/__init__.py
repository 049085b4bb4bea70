"""The line on one machine: its processes, their ports, and a local Kafka."""
