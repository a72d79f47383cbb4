"""What the tests of the MyoMetrics packages share: servers, settings, a stranger's site."""
