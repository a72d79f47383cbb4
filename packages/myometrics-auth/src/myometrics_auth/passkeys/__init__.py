"""Passkeys (WebAuthn), an opt-in app; needs the extra ``passkeys``."""
