"""The hook: what JAX's own transforms run instead of tracing a function."""
