"""Django's back end for PostgreSQL, for pools of connections and servers that change their roles."""
