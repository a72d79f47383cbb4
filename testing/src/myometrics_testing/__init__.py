"""Shared test infrastructure of the MyoMetrics packages: servers, settings, a third-party site."""
