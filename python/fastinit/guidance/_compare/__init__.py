"""Training from several initializers, side by side."""
