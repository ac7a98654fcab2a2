"""Activations, gains, mean-field theory, and the exact distributions of initializers. Needs NumPy only."""
