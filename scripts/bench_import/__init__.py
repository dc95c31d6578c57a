"""Parts of ``scripts/import_aiconfigurator.py``: read, clean, thin and write kernel tables."""
