"""The endpoints of auth."""
