"""What is measured: the recorder, metric definitions, percentiles, summary, result."""
