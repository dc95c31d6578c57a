"""The page on accuracy: from the JSON of ``blis validate`` to ``docs/accuracy.md``."""
