"""Streams of sealed entries to a SIEM, an audit repository or a storage: an opt-in app.

Add ``"myometrics_audit.streams"`` to ``INSTALLED_APPS``, and set ``STREAMS`` of
``MYOMETRICS_AUDIT``.
"""
