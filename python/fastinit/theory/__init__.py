"""What activations do to signals and gradients, and the exact distributions of initializers. NumPy only."""
