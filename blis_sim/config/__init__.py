"""What a user may write: the scenario, YAML loading and overrides."""
