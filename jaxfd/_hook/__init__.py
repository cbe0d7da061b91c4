"""The hook: what JAX's own transforms run instead of tracing a function."""

from jaxfd._hook.blackbox import blackbox as blackbox
from jaxfd._hook.differentiable import differentiable as differentiable
