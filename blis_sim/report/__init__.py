"""How results are shown and written: tables, JSON, CSV, Parquet."""
