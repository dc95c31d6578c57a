"""What is known: GPUs, models, coefficients, prices, and where the data lie."""
