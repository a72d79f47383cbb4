"""Review of the log by fixed rules, and emergency access ("break the glass"): an opt-in app.

Add ``"myometrics_audit.review"`` to ``INSTALLED_APPS``.
"""
