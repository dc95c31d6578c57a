"""Plots of studies and results: what each shows (pure), and how it is drawn (matplotlib)."""
