"""Bad input gets a clear error: the argument's name, what came, what to do."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd
from jaxfd import Backward, Central, ComplexStep, Forward, Relative

X = np.array([1.0, 2.0])


def square(x):
    return jnp.sum(x**2)


TRANSFORMS = [jaxfd.grad, jaxfd.value_and_grad, jaxfd.jacobian, jaxfd.hessian, jaxfd.estimate]
FIRST = [jaxfd.grad, jaxfd.value_and_grad, jaxfd.jacobian, jaxfd.estimate]
SCALAR_ONLY = [jaxfd.grad, jaxfd.value_and_grad]


def label(value):
    return getattr(value, "__name__", None)


class TestDtypes:
    @pytest.mark.parametrize("transform", TRANSFORMS, ids=label)
    @pytest.mark.parametrize(
        ("x", "kind"),
        [(jnp.arange, "int"), (np.arange, "int64"), (lambda n: n, "int64"), (bool, "bool")],
        ids=["jax", "numpy", "python", "bool"],
    )
    def test_integers(self, transform, x, kind):
        name = transform.__name__
        with pytest.raises(TypeError, match=rf"{name} .*argument 0 is {kind}.*convert"):
            transform(square)(x(2))

    @pytest.mark.parametrize("transform", [*TRANSFORMS, jaxfd.hvp, jaxfd.derivative], ids=label)
    def test_the_advice_is_an_option_of_the_transform(self, transform):
        if transform is jaxfd.hvp:
            tangents = (X, np.zeros(2, jax.dtypes.float0))
            run = lambda: jaxfd.hvp(lambda x, n: jnp.sum(x), (X, np.arange(2)), tangents)  # noqa: E731
        else:
            run = functools.partial(transform(square), 2)
        with pytest.raises(TypeError) as caught:
            run()
        offered = "allow_int" in inspect.signature(transform).parameters
        assert ("allow_int=True" in str(caught.value)) == offered

    def test_an_integer_leaf_is_named_by_its_place(self):
        with pytest.raises(TypeError, match=r"argument 1\['rates'\]\[0\] is int"):
            jaxfd.grad(lambda x, t: x, (0, 1))(1.0, {"rates": (jnp.asarray(2), 3.0)})

    @pytest.mark.parametrize("transform", [jaxfd.grad, jaxfd.jacobian], ids=label)
    def test_complex_without_holomorphic(self, transform):
        with pytest.raises(
            TypeError, match=r"needs real outputs, got complex128.*holomorphic=True"
        ):
            transform(lambda z: jnp.sum(z**2))(X + 1j)

    @pytest.mark.parametrize("transform", [jaxfd.grad, jaxfd.jacobian], ids=label)
    def test_holomorphic_without_complex(self, transform):
        message = r"holomorphic=True needs complex inputs, but argument 0 is float64.*convert"
        with pytest.raises(TypeError, match=message):
            transform(square, holomorphic=True)(X)
        message = r"holomorphic=True needs complex outputs, got float64.*drop holomorphic"
        with pytest.raises(TypeError, match=message):
            transform(lambda z: jnp.sum(jnp.abs(z)), holomorphic=True)(X + 1j)

    def test_complex_where_there_are_only_real_ones(self):
        def energy(z):
            return jnp.sum(jnp.abs(z) ** 2)

        z = jnp.asarray(X + 1j)
        with pytest.raises(TypeError, match=r"hessian needs real arguments.*split"):
            jaxfd.hessian(energy)(z)
        with pytest.raises(TypeError, match=r"hvp needs real arguments"):
            jaxfd.hvp(energy, (z,), (z,))
        for run in (
            jaxfd.grad(energy, bounds=(0.0, 9.0)),
            jax.jit(jaxfd.grad(energy, bounds=(0, 9))),
        ):
            with pytest.raises(ValueError, match=r"bounds need real arguments, got a complex one"):
                run(z)

    @pytest.mark.parametrize(
        "x", ["abc", dict, object(), np.array([None, 1])], ids=["str", "type", "object", "objects"]
    )
    def test_what_is_no_array(self, x):
        with pytest.raises(TypeError, match=r"grad .*argument 0.*not an array.*argnums"):
            jaxfd.grad(square)(x)

    def test_an_array_of_strings(self):
        with pytest.raises(TypeError, match=r"argument 0"):
            jaxfd.grad(square)(np.array(["a", "b"]))

    def test_no_array_in_a_tree(self):
        with pytest.raises(TypeError, match=r"argument 0\['name'\].*str.*'lynx'"):
            jaxfd.grad(lambda t: t["x"])({"x": 1.0, "name": "lynx"})


class TestOutputs:
    @pytest.mark.parametrize("transform", SCALAR_ONLY, ids=label)
    @pytest.mark.parametrize(
        ("fun", "got"),
        [
            (lambda x: x, r"shape \(2,\)"),
            (lambda x: jnp.sum(x)[None], r"shape \(1,\)"),
            (lambda x: (jnp.sum(x), 1.0), r"\(\*, \*\)"),
            (lambda x: {"a": jnp.sum(x)}, "a"),
            (lambda x: None, "None"),
        ],
        ids=["vector", "one entry", "tuple", "dict", "None"],
    )
    def test_not_scalar(self, transform, fun, got):
        message = (
            rf"{transform.__name__} needs .* scalar output, got .*{got}.*jaxfd\.jacobian.*has_aux"
        )
        with pytest.raises(TypeError, match=message):
            transform(fun)(X)

    def test_nothing_at_all(self):
        with pytest.raises(TypeError, match="estimate needs a function that returns a number"):
            jaxfd.estimate(lambda x: None)(X)

    def test_not_scalar_in_a_product(self):
        with pytest.raises(TypeError, match=r"hvp needs .* scalar output, got the shape \(2,\)"):
            jaxfd.hvp(lambda x: x, (X,), (X,))

    @pytest.mark.parametrize("transform", [*FIRST, jaxfd.hessian], ids=label)
    def test_integer(self, transform):
        for fun in (jnp.argmax, lambda x: 3, lambda x: jnp.any(x > 1)):
            with pytest.raises(TypeError, match=r"needs real or complex outputs, got (int|bool)"):
                transform(fun)(X)

    @pytest.mark.parametrize("transform", [*FIRST, jaxfd.hessian], ids=label)
    def test_no_pair_with_has_aux(self, transform):
        for fun in (square, lambda x: (square(x), 1, 2), lambda x: [square(x), 1]):
            with pytest.raises(TypeError, match=r"has_aux=True needs .* pair.*drop has_aux"):
                transform(fun, has_aux=True)(X)


class TestSteps:
    @pytest.mark.parametrize("method", [Forward, Backward, Central, ComplexStep], ids=label)
    @pytest.mark.parametrize(
        "step",
        [0, 0.0, -1e-3, math.nan, math.inf, np.array([1.0, -1.0]), {"a": 1.0, "b": 0.0}],
        ids=str,
    )
    def test_not_positive(self, method, step):
        with pytest.raises(ValueError, match=r"step must be positive and finite, got"):
            method(step=step)

    @pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
    def test_relative(self, bad):
        with pytest.raises(ValueError, match=r"rel must be positive and finite, got"):
            Relative(rel=bad)
        with pytest.raises(ValueError, match=r"typical must be positive and finite, got"):
            Relative(typical=bad)

    @pytest.mark.parametrize("step", [{"a": 0.1}, [0.1, 0.1], (0.1,)], ids=str)
    def test_wrong_structure(self, step):
        message = (
            r"step has the structure .* but the differentiated argument has .*: give one number"
        )
        for run in (jaxfd.grad, jaxfd.hessian):
            with pytest.raises(ValueError, match=message):
                run(square, method=Central(step=step))(X)
        with pytest.raises(ValueError, match=message):
            jaxfd.grad(lambda t: t["x"], method=Central(step=step))({"x": 1.0})

    def test_wrong_shape(self):
        message = r"step has a leaf of shape \(3,\) for an argument of shape \(2,\)"
        with pytest.raises(ValueError, match=message):
            jaxfd.grad(square, method=Central(step=np.ones(3)))(X)

    def test_wrong_typical(self):
        with pytest.raises(ValueError, match=r"typical has the structure"):
            jaxfd.grad(square, method=Central(step=Relative(typical={"a": 1.0})))(X)
        with pytest.raises(ValueError, match=r"typical has a leaf of shape \(3,\)"):
            jaxfd.grad(square, method=Central(step=Relative(typical=np.ones(3))))(X)


class TestMethods:
    @pytest.mark.parametrize("order", [-2, -1, 0, 1, 3, 5])
    def test_order_of_central(self, order):
        with pytest.raises(
            ValueError, match=rf"Central: order must be an even number.*got {order}"
        ):
            Central(order=order)

    @pytest.mark.parametrize("method", [Forward, Backward], ids=label)
    @pytest.mark.parametrize("order", [-1, 0])
    def test_order_of_one_sided(self, method, order):
        message = rf"{method.__name__}: order must be 1 or more, got {order}"
        with pytest.raises(ValueError, match=message):
            method(order=order)

    @pytest.mark.parametrize("method", [Forward, Backward, Central], ids=label)
    @pytest.mark.parametrize("order", [2.0, "2", None, True])
    def test_order_that_is_no_integer(self, method, order):
        with pytest.raises(TypeError, match=r"order must be an integer, got"):
            method(order=order)

    @pytest.mark.parametrize("method", ["central", None, Central, 2], ids=str)
    def test_no_method(self, method):
        runs = [
            *(lambda t=t: t(square, method=method) for t in TRANSFORMS),
            lambda: jaxfd.derivative(jnp.sin, method=method),
            lambda: jaxfd.jvp(square, (X,), (X,), method=method),
            lambda: jaxfd.hvp(square, (X,), (X,), method=method),
            lambda: jaxfd.differentiable(square, method=method),
            lambda: jaxfd.blackbox(np.sum, jax.ShapeDtypeStruct((), np.float64), method=method),
        ]
        for run in runs:
            with pytest.raises(
                TypeError, match=r"method must be a method value such as .*Central\(\)"
            ):
                run()

    @pytest.mark.parametrize(
        "drop",
        [
            lambda x: jnp.sum(jnp.abs(x) ** 2),
            lambda x: jnp.sum(x.real),
            lambda x: jnp.sum(x * jnp.conj(x)).real,
        ],
        ids=["abs", "real", "conj"],
    )
    def test_complex_step_where_the_imaginary_part_is_dropped(self, drop):
        for run in (
            jaxfd.grad(drop, method=ComplexStep()),
            jax.jit(jaxfd.value_and_grad(drop, method=ComplexStep())),
            jaxfd.jacobian(drop, method=ComplexStep()),
            lambda x: jaxfd.jvp(drop, (x,), (x,), method=ComplexStep()),
        ):
            with pytest.raises(TypeError, match=r"ComplexStep got a real output.*Use Central\(\)"):
                run(jnp.asarray(X))

    def test_complex_step_of_complex_arguments(self):
        with pytest.raises(TypeError, match=r"ComplexStep needs real arguments.*Central\(\)"):
            jaxfd.grad(lambda z: jnp.sum(z).real, method=ComplexStep())(X + 1j)

    def test_complex_step_makes_first_derivatives_only(self):
        x = jnp.asarray(X)
        for run in (
            lambda: jaxfd.hessian(square, method=ComplexStep())(x),
            lambda: jaxfd.hvp(square, (x,), (x,), method=ComplexStep()),
            lambda: jaxfd.derivative(jnp.sin, 2, method=ComplexStep()),
            lambda: jax.hessian(jaxfd.differentiable(square, method=ComplexStep()))(x),
        ):
            with pytest.raises(
                ValueError, match=r"ComplexStep makes first derivatives only.*Central"
            ):
                run()


class TestBounds:
    @pytest.mark.parametrize("transform", FIRST, ids=label)
    def test_crossed(self, transform):
        with pytest.raises(ValueError, match=r"bounds are crossed.*3\.0.*0\.0"):
            transform(square, bounds=(3.0, 0.0))(X)
        lower, upper = np.array([0.0, 5.0]), np.array([9.0, 4.0])
        with pytest.raises(ValueError, match=r"bounds are crossed"):
            transform(square, bounds=(lower, upper))(X)

    def test_crossed_is_seen_before_x_is_known(self):
        with pytest.raises(ValueError, match=r"bounds are crossed"):
            jax.jit(jaxfd.grad(square, bounds=(3.0, 0.0)))(X)

    @pytest.mark.parametrize("transform", FIRST, ids=label)
    def test_x_outside(self, transform):
        message = r"x lies outside bounds: entry \(1,\) is 2\.0, not between 0\.0 and 1\.5"
        with pytest.raises(ValueError, match=message):
            transform(square, bounds=(0.0, 1.5))(X)

    def test_x_outside_in_a_tree(self):
        with pytest.raises(ValueError, match=r"x lies outside bounds: entry \(\) is 2\.0"):
            jaxfd.grad(lambda t: t["a"] * t["b"], bounds=(0.0, 1.5))({"a": 1.0, "b": 2.0})

    def test_not_a_number(self):
        """And not a gradient of zero, as if the box had no width."""
        for bounds in [(math.nan, 5.0), (0.0, np.array([math.nan, 5.0]))]:
            with pytest.raises(ValueError, match=r"bounds.*nan"):
                jaxfd.grad(square, bounds=bounds)(X)

    @pytest.mark.parametrize("bounds", [1.0, (0.0,), (0.0, 1.0, 2.0), np.zeros(2), "ab"], ids=str)
    def test_no_pair(self, bounds):
        with pytest.raises(TypeError, match=r"bounds must be a pair \(lower, upper\), got"):
            jaxfd.grad(square, bounds=bounds)

    def test_wrong_structure_and_shape(self):
        with pytest.raises(ValueError, match=r"bounds\[0\] has the structure"):
            jaxfd.grad(square, bounds=({"a": 0.0}, None))(X)
        with pytest.raises(ValueError, match=r"bounds\[1\] has a leaf of shape \(3,\)"):
            jaxfd.grad(square, bounds=(None, np.full(3, 9.0)))(X)


class TestArguments:
    @pytest.mark.parametrize("transform", TRANSFORMS, ids=label)
    def test_argnums_out_of_range(self, transform):
        for argnums in (1, -2, (0, 3)):
            message = rf"argnums=.*{transform.__name__}.*called with 1 positional argument"
            with pytest.raises(ValueError, match=message):
                transform(square, argnums)(X)

    def test_by_keyword(self):
        with pytest.raises(ValueError, match=r"called with 0 positional.*by position"):
            jaxfd.grad(square)(x=X)

    @pytest.mark.parametrize("argnums", [1.5, "x", None, (0, "x")])
    def test_argnums_of_a_wrong_kind(self, argnums):
        with pytest.raises(TypeError, match=r"argnums must be an integer or a sequence"):
            jaxfd.grad(square, argnums)

    def test_argnums_twice(self):
        with pytest.raises(ValueError, match=r"argnums names an argument twice"):
            jaxfd.grad(square, (0, 0))

    def test_argnums_twice_from_both_ends(self):
        """Known at the call at the earliest; and not two different gradients of one argument."""
        with pytest.raises(ValueError, match=r"argnums names an argument twice"):
            jaxfd.grad(lambda a, b: a * b, (0, -2))(1.0, 2.0)

    @pytest.mark.parametrize("transform", TRANSFORMS, ids=label)
    def test_chunk_size(self, transform):
        for size in (0, -3):
            with pytest.raises(ValueError, match=rf"chunk_size must be 1 or more, got {size}"):
                transform(square, chunk_size=size)
        for size in (1.5, "2", True):
            with pytest.raises(TypeError, match=r"chunk_size must be an integer or None, got"):
                transform(square, chunk_size=size)

    @pytest.mark.parametrize("transform", [*TRANSFORMS, jaxfd.differentiable], ids=label)
    def test_not_callable(self, transform):
        with pytest.raises(TypeError, match=r"fun must be callable, got float"):
            transform(3.0)

    def test_order_of_an_estimate(self):
        with pytest.raises(
            ValueError, match=r"derivative must be 1 or 2, got 3.*jaxfd\.derivative"
        ):
            jaxfd.estimate(square, derivative=3)
        with pytest.raises(TypeError, match="derivative must be an integer"):
            jaxfd.estimate(square, derivative=1.0)
        found = jaxfd.estimate(square)(X)
        with pytest.raises(AttributeError, match=r"no hessian: it was made by .*derivative=1"):
            found.hessian  # noqa: B018

    def test_order_of_a_derivative(self):
        for order in (0, -1):
            with pytest.raises(ValueError, match=rf"order must be 1 or more, got {order}"):
                jaxfd.derivative(jnp.sin, order)
        for order in (1.5, "1", True):
            with pytest.raises(TypeError, match=r"order must be an integer, got"):
                jaxfd.derivative(jnp.sin, order)

    @pytest.mark.parametrize("x", [X, {"a": 1.0}, [1.0], np.ones((1, 1))], ids=str)
    def test_derivative_of_what_is_no_scalar(self, x):
        with pytest.raises(TypeError, match=r"derivative needs a scalar.*jax\.vmap"):
            jaxfd.derivative(jnp.sin)(x)

    @pytest.mark.parametrize("product", [jaxfd.jvp, jaxfd.hvp], ids=label)
    def test_tangents(self, product):
        x = jnp.asarray(X)
        name = product.__name__
        with pytest.raises(TypeError, match=rf"{name}: primals must be a tuple"):
            product(square, x, (x,))
        with pytest.raises(TypeError, match=rf"{name}: tangents must be a tuple"):
            product(square, (x,), x)
        with pytest.raises(TypeError, match=rf"{name}: tangents have the structure"):
            product(square, (x,), (x, x))
        with pytest.raises(ValueError, match=rf"{name}: a tangent has the shape \(1,\).*\(2,\)"):
            product(square, (x,), (x[:1],))
        with pytest.raises(
            TypeError, match=rf"{name}: a tangent is float32 for a primal of float64"
        ):
            product(square, (x,), (x.astype(np.float32),))
        with pytest.raises(TypeError, match=rf"{name} needs real or complex primals, got int"):
            product(square, (jnp.arange(2),), (jnp.arange(2),))

    def test_hook(self):
        with pytest.raises(ValueError, match=r"mode must be one of 'reverse', .* got 'backward'"):
            jaxfd.differentiable(square, mode="backward")
        with pytest.raises(ValueError, match=r"nondiff_argnums names argument 3.*1 positional"):
            jaxfd.differentiable(square, nondiff_argnums=(3,))(X)


def numpy_loss(x):
    return np.sum(np.sin(np.asarray(x)))


UNTRACEABLE = {
    "numpy": numpy_loss,
    "math": lambda x: math.sin(x[0]),
    "float": lambda x: float(x[0]) ** 2,
    "item": lambda x: x[0].item(),
    "if": lambda x: x[0] if x[1] > 0 else -x[0],
    "int": lambda x: jnp.sum(x[: int(x[0])]),
    "bool": lambda x: x[0] if bool(x[1] > 0) and x[0] else x[1],
    "array": lambda x: np.array([x[0], x[1]]).sum(),
    "mask": lambda x: jnp.sum(x[x > 1.0]),
}


class TestUntraceable:
    """A function that needs numbers: the message names the way out."""

    @pytest.mark.parametrize("kind", UNTRACEABLE)
    def test_message_names_blackbox(self, kind):
        fun = UNTRACEABLE[kind]
        with pytest.raises(TypeError, match=r"grad cannot trace .*jaxfd\.blackbox\(fun, out\)"):
            jaxfd.grad(fun)(X)

    def test_and_the_function(self):
        with pytest.raises(TypeError, match="numpy_loss"):
            jaxfd.grad(numpy_loss)(X)

    @pytest.mark.parametrize(
        "run",
        [
            *(t(numpy_loss) for t in TRANSFORMS),
            lambda x: jaxfd.jvp(numpy_loss, (x,), (x,)),
            lambda x: jaxfd.hvp(numpy_loss, (x,), (x,)),
            jax.grad(jaxfd.differentiable(numpy_loss)),
            jax.jit(jaxfd.differentiable(numpy_loss)),
        ],
    )
    def test_in_every_transform(self, run):
        with pytest.raises(TypeError, match=r"cannot trace numpy_loss.*jaxfd\.blackbox"):
            run(jnp.asarray(X))

    def test_the_cause_is_kept(self):
        with pytest.raises(TypeError) as caught:
            jaxfd.grad(numpy_loss)(X)
        assert isinstance(caught.value.__cause__, jax.errors.TracerArrayConversionError)

    def test_an_error_of_the_functions_own_is_left_alone(self):
        def broken(x):
            raise KeyError("rates")

        with pytest.raises(KeyError, match="rates"):
            jaxfd.grad(broken)(X)


def test_a_failed_call_does_not_spoil_the_next():
    gradient = jaxfd.grad(square)
    with pytest.raises(TypeError, match="argument 0 is int"):
        gradient(jnp.arange(2))
    np.testing.assert_allclose(gradient(X), 2 * X, rtol=1e-9)


def _product(z):
    return z[0] * z[1]


@pytest.mark.parametrize(
    ("run", "offers"),
    [
        (lambda z: jaxfd.grad(_product)(z), True),
        (lambda z: jaxfd.estimate(_product)(z), False),
        (lambda z: jaxfd.hessian(_product)(z), False),
        (lambda z: jaxfd.hessian_diagonal(_product)(z), False),
        (lambda z: jaxfd.hvp(_product, (z,), (z,)), False),
        (lambda z: jaxfd.check_grads(_product, z, z[::-1]), False),
    ],
)
def test_only_options_that_there_are_get_advised(run, offers):
    with pytest.raises(TypeError, match="needs real outputs") as caught:
        run(jnp.array([1 + 1j, 0.3 - 0.2j]))
    assert ("holomorphic=True" in str(caught.value)) == offers


def test_no_auxiliary_output_is_advised_where_there_is_none():
    x = jnp.ones(2)
    with pytest.raises(TypeError, match="needs a function with a scalar output") as caught:
        jaxfd.hvp(lambda x: (jnp.sum(x), x), (x,), (x,))
    assert "has_aux" not in str(caught.value)
