"""Real servers for tests, from wheels: PostgreSQL, and Valkey for the Redis protocol."""

from myometrics_testing.services.client import OwnedServer, ServerError

__all__ = ["OwnedServer", "ServerError"]
