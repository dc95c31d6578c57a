"""Measured kernel times: reading bench_data folders and looking kernels up in them."""
