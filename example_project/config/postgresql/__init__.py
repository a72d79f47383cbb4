"""Django's back end for PostgreSQL, for pools and for servers that change their roles."""
