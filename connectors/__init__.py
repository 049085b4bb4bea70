"""Everything around the stream processor: the HTTP edge, ClickHouse, campaigns, the console, the
command line.
"""
