"""Programs that JAX traced, followed operation by operation."""
