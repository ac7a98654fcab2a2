"""Which initializer each weight of a layer should have, and why."""
