"""The commands of ``python3 dev``, run in its environment. See ``python3 dev --help``."""
