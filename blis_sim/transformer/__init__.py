"""What one forward pass computes and moves: its kernels with FLOPs and bytes."""
