"""What auth does: every write goes through one of these functions."""
