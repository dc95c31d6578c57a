"""Roofline v2: a step is the sum of its kernels, each as long as measurements say."""
