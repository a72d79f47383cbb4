"""Import of the audit logs of other packages: ``manage.py audit_import``.

An opt-in app. It needs no further libraries, and the other package need not be installed.
"""
