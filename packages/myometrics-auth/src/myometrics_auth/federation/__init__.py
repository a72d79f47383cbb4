"""Opt-in app: sign-in with the accounts of identity providers (OpenID Connect)."""
