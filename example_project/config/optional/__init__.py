"""Parts that a site can omit: brokers, beat, tracing, worker classes, PostgreSQL, policies."""
