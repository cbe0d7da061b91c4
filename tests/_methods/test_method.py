"""Methods as values: equal, hashable, trees, and printed in one line."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxfd


class TestValues:
    """Frozen, and pytrees."""

    @pytest.mark.parametrize(
        "method",
        [jaxfd.Forward(2), jaxfd.Backward(), jaxfd.Central(4, step=0.5), jaxfd.ComplexStep()],
    )
    def test_frozen_hashable_equal(self, method):
        leaves, tree = jax.tree.flatten(method)
        assert jax.tree.unflatten(tree, leaves) == method
        assert hash(method) == hash(dataclasses.replace(method))
        with pytest.raises(dataclasses.FrozenInstanceError):
            method.step = 1.0
        assert leaves == ([0.5] if method.step == 0.5 else [])
        assert eval(repr(method), vars(jaxfd)) == method

    def test_structures_know_their_class(self):
        # To jax.tree_util.register_dataclass these are equal, and jit may take one for the other.
        trees = [jax.tree.structure(m) for m in (jaxfd.Forward(2), jaxfd.Backward(2))]
        assert trees[0] != trees[1]


class TestRepr:
    key = jax.random.key(0)

    def test_in_one_line(self):
        key, x = self.key, np.ones((4, 300))
        for method, text in (
            (jaxfd.SPSA(key, 8, sigma=0.1), "SPSA(key=<key>, num_samples=8, sigma=0.1)"),
            (jaxfd.SPSA(jax.random.PRNGKey(0)), "SPSA(key=<key>, num_samples=1)"),
            (jaxfd.Sphere(), "Sphere(key=None, num_samples=1)"),
            (
                jaxfd.GaussianSmoothing(key, 2, antithetic=False, shaping="rank"),
                "GaussianSmoothing(key=<key>, num_samples=2, antithetic=False, shaping='rank')",
            ),
            (
                jaxfd.Orthogonal(key, 2, sigma={"a": x}),
                "Orthogonal(key=<key>, num_samples=2, sigma=<dict>)",
            ),
            (jaxfd.LowRank(key, 2, rank=3), "LowRank(key=<key>, num_samples=2, rank=3)"),
            (jaxfd.RandomCoordinates(key, 2), "RandomCoordinates(key=<key>, num_samples=2)"),
            (
                jaxfd.Guided(key, 8, {"a": x, "b": x}),
                "Guided(key=<key>, num_samples=8, subspace=<4 directions>)",
            ),
        ):
            assert repr(method) == text

    def test_whatever_it_holds(self):
        method = jaxfd.Guided(self.key, 8, np.ones((4, 3)), sigma=0.1)
        for value in (None, object(), 3.0, "word", np.ones((9, 9))):
            text = repr(jax.tree.map(lambda _, v=value: v, method))
            assert "\n" not in text
            assert text.startswith("Guided(key=")
        jax.jit(lambda m: print(repr(m), end=""))(method)
