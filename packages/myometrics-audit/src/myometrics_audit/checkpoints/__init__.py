"""Signed checkpoints of the log, its tiles and their publication: an opt-in app.

Add ``"myometrics_audit.checkpoints"`` to ``INSTALLED_APPS``; needs the extra ``checkpoints``.
"""
