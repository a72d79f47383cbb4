"""What ``python3 dev`` does once its environment stands. See ``python3 dev --help``."""
