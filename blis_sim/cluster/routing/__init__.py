"""How the gateway chooses an instance for a request."""
