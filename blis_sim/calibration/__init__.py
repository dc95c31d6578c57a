"""Fitting a latency model to measurements of the user's own server."""
