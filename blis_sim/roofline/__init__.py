"""Where work stands against the roofs of a machine, and what would help."""
