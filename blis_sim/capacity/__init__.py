"""Questions that several simulations answer together."""
