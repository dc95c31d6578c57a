"""The simulated serving engine: requests, scheduler, KV cache, instance, clock."""
