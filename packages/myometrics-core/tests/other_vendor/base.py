"""A database engine that says it is MySQL; its client library is not installed for tests."""

from django.db.backends.sqlite3 import base


class DatabaseWrapper(base.DatabaseWrapper):
    vendor = "mysql"
