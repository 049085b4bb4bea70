"""Bytes on the wire: Avro, JSON text, money. Pure."""
