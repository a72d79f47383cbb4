"""The access report: who opened the data of one patient or other data subject. An opt-in app."""
