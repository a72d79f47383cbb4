"""Canonical form, keys, leaf hashes, signatures and Merkle trees: pure functions, no models."""
