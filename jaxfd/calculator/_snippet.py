"""The question on the page as a Python program that prints the page's number."""

from __future__ import annotations

from jaxfd.calculator._nodes import python_name
from jaxfd.calculator._request import Request

_NOISE = '''
def noise(*point):
    """A number that belongs to this very point."""
    key = jax.random.key(0)
    for entry in map(jnp.asarray, point):
        for bits in jnp.ravel(jax.lax.bitcast_convert_type(entry, jnp.uint32)):
            key = jax.random.fold_in(key, bits)
    return jax.random.normal(key, dtype=jnp.asarray(point[0]).dtype)


'''
_CLASSES = {
    "forward": "Forward",
    "backward": "Backward",
    "central": "Central",
    "complex": "ComplexStep",
    "adaptive": "Adaptive",
}


def digits(wide: bool) -> int:
    """How many digits of a derivative the page and the snippet show."""
    return 10 if wide else 6


def snippet(asked: Request) -> str:
    """The program.

    Args:
        asked: the question.

    Returns:
        Python source, complete.
    """
    names = [python_name(name) for name in asked.names]
    options = []
    if asked.order:
        options.append(f"order={asked.order}")
    if asked.step is not None:
        options.append(f"step={asked.step!r}")
    method = f"jaxfd.{_CLASSES[asked.method]}({', '.join(options)})"
    body = asked.node.python()
    arguments = ", ".join(names)
    point = ", ".join(map(repr, asked.point))
    if asked.noise:
        body, arguments = f"{body} + size * noise({arguments})", f"{arguments}, size"
        point = f"{point}, {asked.noise!r}"
    x64 = 'jax.config.update("jax_enable_x64", True)\n' if asked.wide else ""
    return (
        f"import jax\nimport jax.numpy as jnp\n\nimport jaxfd\n\n{x64}\n"
        f"{_NOISE if asked.noise else ''}"
        f"def f({arguments}):\n    return {body}\n\n\n"
        f"method = {method}\n"
        f"found = jaxfd.estimate(f, argnums={tuple(range(len(names)))}, method=method)({point})\n"
        f"for name, slope, bar in zip({tuple(asked.names)!r}, found.grad, found.error):\n"
        f'    print(f"df/d{{name}} = {{slope:.{digits(asked.wide)}g}}, error bar {{bar:.2g}}")\n'
    )
