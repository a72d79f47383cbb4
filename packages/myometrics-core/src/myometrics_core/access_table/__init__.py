"""Opt-in app: store the access log in a database table, for sites without log aggregation.

Add ``"myometrics_core.access_table"`` to ``INSTALLED_APPS`` and migrate. A request adds its access
to an in-memory queue and does not wait. A thread in each process writes the queue in batches.
"""
