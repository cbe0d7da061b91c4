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
