"""Django's PostgreSQL backend, for pools and for servers that change their roles."""
