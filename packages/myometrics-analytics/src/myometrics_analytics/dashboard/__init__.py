"""The dashboard of the admin site."""
