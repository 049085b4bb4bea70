"""Hands stored events over: Parquet files, and a description of the views for dbt."""
