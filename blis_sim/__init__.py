"""Simulate LLM inference serving: TTFT, inter-token latency, throughput, without GPUs."""
