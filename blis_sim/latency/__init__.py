"""How long an engine step takes: the protocol and its models."""
