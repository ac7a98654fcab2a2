"""Activations: what they are, and what they do to the variance of signals and gradients."""
