"""Arguments of `jaxfd.optim.minimize` that do not fit, and those that seem not to."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _tools import rosenbrock

import jaxfd
from jaxfd.optim import estimate_gradient, minimize


class TestArguments:
    def test_checkpoint_that_is_a_file(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("")
        for place in (path, path / "inside"):
            with pytest.raises(ValueError, match=r"checkpoint must be a folder, but .*file"):
                minimize(rosenbrock, jnp.zeros(2), checkpoint=place)

    def test_method_beside_its_own(self):
        optimizer = optax.chain(estimate_gradient(jaxfd.Forward()), optax.sgd(1e-3))
        with pytest.raises(ValueError, match="but optimizer estimates gradients for itself"):
            minimize(rosenbrock, jnp.zeros(2), optimizer, method=jaxfd.Central())

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_bounds_for_each_entry(self, n):
        with pytest.raises(TypeError, match=r"one pair .*not a pair for each entry"):
            minimize(rosenbrock, jnp.zeros(n), bounds=[(-0.5, 0.5)] * n)

    def test_bounds_of_a_pair_of_numbers(self):
        found = minimize(lambda p: p[0] ** 2 + p[1] ** 2, (1.0, 2.0), bounds=((0.5, 1), (3, 3.0)))
        np.testing.assert_allclose(found.x, [0.5, 1.0])

    @pytest.mark.parametrize("x0", [np.zeros(2), jnp.zeros(2)], ids=["numpy", "jax"])
    def test_bounds_of_lists(self, x0):
        found = minimize(_bowl, x0, bounds=([-1.0, None], [1.0, 2.0]))
        np.testing.assert_allclose(found.x, [1.0, 2.0])

    @pytest.mark.parametrize("bounds", [({"a": -1.0}, {"a": 1.0}), (None, {"a": 1.0, "b": 9.0})])
    def test_bounds_of_some_keys(self, bounds):
        found = minimize(
            lambda p: float((p["a"] - 3) ** 2 + (p["b"] - 4) ** 2),
            {"a": np.zeros(()), "b": np.zeros(())},
            bounds=bounds,
        )
        np.testing.assert_allclose([found.x["a"], found.x["b"]], [1.0, 4.0], atol=1e-6)


def _bowl(x):
    """Nothing that JAX can trace."""
    return float(np.sum((np.asarray(x) - 3) ** 2))
