"""Opt-in app: rate limits counted in the database, for several processes without Redis."""
