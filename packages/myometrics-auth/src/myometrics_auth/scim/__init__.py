"""Opt-in app: an identity provider creates, changes and deactivates users over SCIM 2.0."""
