"""Arrivals, lengths and traces: a lazy stream of requests that knows nothing of the engine."""
