"""Legal holds: entries of a user or about a data subject that must not be erased."""
