"""Django's back end for PostgreSQL, for servers that change their roles."""
