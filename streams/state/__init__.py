"""A partition and its tables in RocksDB, recovered from their changelogs."""
