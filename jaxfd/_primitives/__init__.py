"""Operations of our own that JAX can trace, batch and compile."""
