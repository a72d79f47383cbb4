"""Django's back end for PostgreSQL, with a pool that fails and recovers at once."""
