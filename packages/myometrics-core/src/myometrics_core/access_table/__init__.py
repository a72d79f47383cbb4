"""Opt-in app: the accesses of the access log as rows, for sites without log aggregation.

Add ``"myometrics_core.access_table"`` to ``INSTALLED_APPS`` and migrate. A request hands its
access to a queue in memory and goes on; a thread of each process writes them in batches.
"""
