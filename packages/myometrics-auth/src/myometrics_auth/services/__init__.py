"""Services of auth: all writes go through these functions."""
