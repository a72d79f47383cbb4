"""Real servers for tests, from wheels: PostgreSQL, and Valkey for the Redis protocol."""

from myometrics_testing.services.client import OwnedServer, ServerError
from myometrics_testing.services.servers import free_port

__all__ = ["OwnedServer", "ServerError", "free_port"]
