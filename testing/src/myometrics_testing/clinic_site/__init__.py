"""A third-party site: users with UUID keys, identified by e-mail address, without roles."""
