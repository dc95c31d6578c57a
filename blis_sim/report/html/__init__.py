"""One self-contained HTML page about a study or a result."""
