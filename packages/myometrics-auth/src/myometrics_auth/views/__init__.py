"""API views of auth."""
