"""Parts of ``scripts/collect_bench.py``: plan, measure, store and compare kernel tables."""
