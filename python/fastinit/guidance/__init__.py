"""Which initializer to use, what it does to the signal, and what is wrong with weights that are there."""
