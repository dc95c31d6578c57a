"""Measured serving runs against what is simulated for them."""
