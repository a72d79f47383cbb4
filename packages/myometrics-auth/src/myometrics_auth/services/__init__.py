"""Services of auth: all writes go through these functions.

``User`` in annotations stands for the site's user model, a subclass of ``AbstractClinicUser``.
"""
