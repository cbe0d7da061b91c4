"""Black boxes that fail, return something else than declared, or are declared wrongly."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd
from jaxfd import ComplexStep

SCALAR = jax.ShapeDtypeStruct((), np.float64)
X = np.array([0.3, -1.2, 2.1])


def host_loss(x):
    return np.sin(x).sum(-1) + x[..., 0] * x[..., 1]


def host_vector(x):
    return np.stack([np.sin(x[..., 0]) * x[..., 1], np.cos(x[..., 2]) + x[..., 0] ** 2], -1)


VECTOR = jax.ShapeDtypeStruct((2,), np.float64)
MODES = ["reverse", "forward", "recompute"]
both = pytest.mark.parametrize("vectorized", [False, True], ids=["single", "vectorized"])


class SimulationError(Exception):
    """The user's own."""


def failing(x):
    raise SimulationError(f"diverged at {float(np.sum(x)):.1f}")


class TestFailures:
    @pytest.mark.parametrize(
        "run",
        [
            lambda box: box,
            jaxfd.grad,
            jax.grad,
            jaxfd.hessian,
            lambda box: jax.vmap(jaxfd.grad(box)),
        ],
        ids=["value", "jaxfd.grad", "jax.grad", "hessian", "vmap"],
    )
    def test_eagerly_it_is_the_exception_itself(self, run):
        box = jaxfd.blackbox(failing, SCALAR)
        with pytest.raises(SimulationError, match=r"diverged at \d\.\d") as caught:
            run(box)(jnp.ones((2, 2)) if "vmap" in run.__code__.co_names else jnp.ones(2))
        assert any(entry.name == "failing" for entry in caught.traceback)

    @pytest.mark.parametrize("transform", [lambda f: f, jaxfd.grad, jax.grad])
    def test_inside_jit_its_type_message_and_traceback_are_in_the_error(self, transform):
        box = jaxfd.blackbox(failing, SCALAR)
        with pytest.raises(Exception, match="SimulationError: diverged at") as caught:
            jax.block_until_ready(jax.jit(transform(box))(jnp.ones(2)))
        text = str(caught.value)
        assert "in failing" in text
        assert Path(__file__).name in text

    def test_a_failed_call_leaves_no_trace(self):
        bad = [True]

        def host(x):
            if bad[0]:
                raise SimulationError("once")
            return np.sum(x**2)

        box = jaxfd.blackbox(host, SCALAR)
        gradient = jaxfd.grad(box)
        with pytest.raises(SimulationError):
            gradient(X)
        bad[0] = False
        np.testing.assert_allclose(gradient(X), 2 * X, rtol=1e-8)

    @both
    def test_wrong_shape(self, vectorized):
        box = jaxfd.blackbox(lambda x: np.zeros((3, 5)), VECTOR, vectorized=vectorized)
        for run in (box, jaxfd.jacobian(box), jax.jacrev(box)):
            with pytest.raises(ValueError, match=r"returned the shape \(3, 5\).*declares.*2.*out"):
                run(X)

    def test_vectorized_without_its_leading_axis(self):
        box = jaxfd.blackbox(lambda x: np.sum(x), SCALAR, vectorized=True)
        with pytest.raises(ValueError, match=r"shape \(\).*vectorized=True"):
            jaxfd.grad(box)(X)

    @pytest.mark.parametrize(
        ("returned", "declared"),
        [
            (np.complex128(1j), np.float64),
            (np.int64(1), np.float64),
            (np.bool_(1), np.float64),
            (np.float64(1.5), np.int64),
            (np.ones(()), np.complex128),
            (np.array("a"), np.float64),
            (1.5, np.int64),
            (True, np.float64),
        ],
    )
    def test_wrong_kind_of_dtype(self, returned, declared):
        box = jaxfd.blackbox(lambda x: returned, jax.ShapeDtypeStruct((), declared))
        with pytest.raises(TypeError, match=rf"returned dtype.*declares {np.dtype(declared)}"):
            box(X)

    def test_wrong_structure(self):
        for returned in [(1.0, 2.0), {"a": 1.0}, None, []]:
            box = jaxfd.blackbox(lambda x, returned=returned: returned, SCALAR)
            with pytest.raises(TypeError, match=r"returned the structure.*out declares"):
                jaxfd.grad(box)(X)
        box = jaxfd.blackbox(lambda x: 1.0, {"a": SCALAR})
        with pytest.raises(TypeError, match=r"returned the structure.*out declares"):
            box(X)

    def test_message_names_the_function(self):
        def my_simulator(x):
            return np.zeros(4)

        box = jaxfd.blackbox(my_simulator, SCALAR)
        with pytest.raises(ValueError, match="my_simulator"):
            box(X)

    @pytest.mark.parametrize("host", [host_loss, lambda x: np.sum(np.abs(x) ** 2)])
    def test_complex_step_on_a_box_declared_real(self, host):
        """Whether the function would keep the imaginary part or drops it."""
        step = ComplexStep()
        box = jaxfd.blackbox(host, SCALAR)
        for run in (
            jaxfd.grad(box, method=step),
            jax.jit(jaxfd.grad(box, method=step)),
            lambda x: jaxfd.jvp(box, (x,), (x,), method=step),
            *(jax.grad(jaxfd.blackbox(host, SCALAR, method=step, mode=mode)) for mode in MODES),
        ):
            with pytest.raises(TypeError, match=r"ComplexStep.*Central\(\)"):
                run(jnp.asarray(X))

    def test_a_non_scalar_box_has_no_gradient(self):
        box = jaxfd.blackbox(host_vector, VECTOR)
        with pytest.raises(TypeError, match=r"scalar output.*jaxfd\.jacobian"):
            jaxfd.grad(box)(X)

    def test_not_callable(self):
        with pytest.raises(TypeError, match="fun must be callable, got float"):
            jaxfd.blackbox(3.0, SCALAR)

    def test_no_mode_of_that_name(self):
        with pytest.raises(ValueError, match=r"mode must be one of 'reverse'.*'backward'"):
            jaxfd.blackbox(host_loss, SCALAR, mode="backward")

    def test_integer_argument(self):
        box = jaxfd.blackbox(lambda x: np.float64(x.sum()), SCALAR)
        with pytest.raises(TypeError, match=r"argument 0 is int64.*allow_int"):
            jaxfd.grad(box)(jnp.arange(3))
