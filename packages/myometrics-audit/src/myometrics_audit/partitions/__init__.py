"""Partitions of the table of entries, by id; PostgreSQL only."""
