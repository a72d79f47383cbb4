"""A tamper-evident audit log for Django that stays fast at ten million rows."""

__version__ = "0.2.0.dev0"
