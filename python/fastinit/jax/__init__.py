"""Initializers for JAX."""
