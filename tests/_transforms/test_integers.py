"""Python's numbers as arguments that are not differentiated: traced where that changes nothing."""

import contextlib
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import x64

import jaxfd

X = np.array([1.5, -2.5])
WORDS = {"w1": 1.0, "w2": 2.0, "w3": 3.0, "w5": 5.0}
SUM = jnp.sum


def counted(fun):
    """The function, and how often it was traced."""
    traced = [0]

    def counts(x, *args, **kwargs):
        traced[0] += 1
        return fun(x, *args, **kwargs)

    return counts, traced


def gradients(fun, calls, transform):
    for args in calls:
        x = jnp.asarray(X)
        wanted = jax.grad(lambda x, args=args: fun(x, *args))(x)
        np.testing.assert_allclose(transform(x, *args), wanted, rtol=1e-5, atol=1e-5)


ONE = [(1,), (2,), (3,), (2,), (5,)]
TRACED = {
    "factor": lambda x, i: SUM(jnp.sin(x)) * i,
    "divisor": lambda x, i: SUM(x * x) / i,
    "power": lambda x, i: SUM(x**i),
    "power of a float": lambda x, i: SUM(x * x) * 2.0**-i,
    "index": lambda x, i: (x * x)[i % 2],
    "negative": lambda x, i: SUM(x * x) * (-i + 1 - 3 * i),
    "loop": lambda x, i: jax.lax.fori_loop(0, i, lambda k, c: c * 0.5 + SUM(x) * k, 0.0),
    "key": lambda x, i: SUM(x * jax.random.normal(jax.random.key(i), (2,))),
    "fold": lambda x, i: SUM(x * jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (2,))),
    "where": lambda x, i: jnp.where(i > 2, SUM(x), SUM(x * x)),
}


@pytest.mark.parametrize("name", TRACED)
@pytest.mark.parametrize("hook", [False, True])
def test_traced_once(name, hook):
    fun, traced = counted(TRACED[name])
    gradient = jax.grad(jaxfd.differentiable(fun)) if hook else jaxfd.grad(fun)
    gradient(jnp.asarray(X), 1)
    first = traced[0]
    gradients(TRACED[name], ONE, gradient)
    assert traced[0] == first


A_NAME = isinstance


def caught(i):
    try:
        return [1.0, 2.0, 3.0, 4.0][i]
    except TypeError:
        return 7.0


def suppressed(i):
    with contextlib.suppress(TypeError):
        return [1.0, 2.0, 3.0, 4.0][i]
    return 7.0


def matched(i):
    match i:
        case int():
            return 2.0
    return 3.0


@functools.singledispatch
def generic(i):
    return 3.0


@generic.register
def _(i: int):
    return 2.0


FIXED = {
    "range": lambda x, i: sum(SUM(x * k) for k in range(i + 1)),
    "if": lambda x, i: SUM(x) if i > 2 else SUM(x * x),
    "slice": lambda x, i: SUM((x * x)[i - 1 :]) + SUM(x),
    "ones": lambda x, i: SUM(x * jnp.ones((i, 2))),
    "dict": lambda x, i: SUM(x) * {1: 1.0, 2: 3.0, 3: 4.0, 5: 2.0}[i],
    "key": lambda x, i: SUM(x) * WORDS[f"w{i}"],
    "list": lambda x, i: SUM(x) * [0, 1, 2, 3, 4, 5][i],
    "type": lambda x, i: SUM(x) * (2 if isinstance(i, int) else 3),
    "NumPy": lambda x, i: SUM(x) * np.sqrt(i),
    "axis": lambda x, i: SUM(jnp.sum(x[None], axis=i % 2)),
    "text": lambda x, i: SUM(x) * WORDS.get(f"w{i}", 7.0),
    "format": lambda x, i: SUM(x) * WORDS.get("w{}".format(i), 7.0),  # noqa: UP032
    "per cent": lambda x, i: SUM(x) * WORDS.get("w%s" % i, 7.0),  # noqa: UP031
    "str": lambda x, i: SUM(x) * WORDS.get("w" + str(i), 7.0),
    "caught": lambda x, i: SUM(x) * caught(i),
    "suppressed": lambda x, i: SUM(x) * suppressed(i),
    "another name of isinstance": lambda x, i: SUM(x) * (2 if A_NAME(i, int) else 3),
    "type as a default": lambda x, i, t=type: SUM(x) * (2 if t(i) is int else 3),
    "class": lambda x, i: SUM(x) * (2 if i.__class__ is int else 3),
    "attribute": lambda x, i: SUM(x) * (2 if hasattr(i, "dtype") else 3),
    "shape": lambda x, i: SUM(x) * (2 if getattr(i, "shape", None) is None else 3),
    "scalar": lambda x, i: SUM(x) * (2 if np.isscalar(i) else 3),
    "pattern": lambda x, i: SUM(x) * matched(i),
    "generic": lambda x, i: SUM(x) * generic(i),
    # These can be traced, and are other numbers then.
    "power of an integer": lambda x, i: SUM(x * x) * 2**-i,
}


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("hook", [False, True])
def test_a_program_for_each_value(name, hook):
    fun, traced = counted(FIXED[name])
    gradient = jax.grad(jaxfd.differentiable(fun)) if hook else jaxfd.grad(fun)
    gradients(FIXED[name], [(1,), (3,)], gradient)
    first = traced[0]
    gradients(FIXED[name], [(1,), (3,)], gradient)
    assert traced[0] == first


def test_under_jit_and_vmap():
    for fun in (TRACED["factor"], FIXED["range"]):
        gradient = jaxfd.grad(fun)
        wanted = jax.grad(lambda x, fun=fun: fun(x, 3))(jnp.asarray(X))
        np.testing.assert_allclose(jax.jit(lambda x: gradient(x, 3))(X), wanted, atol=1e-5)  # noqa: B023
        hook = jaxfd.differentiable(fun)
        under = jax.jit(jax.vmap(lambda x: jax.grad(hook)(x, 3)))  # noqa: B023
        np.testing.assert_allclose(under(X[None])[0], wanted, atol=1e-5)


def test_types_asked_for_by_functions_that_are_not_kept():
    rng = np.random.default_rng(0)  # its state is not known

    class Model:
        def loss(self, x, i):
            return SUM(x) * (i if isinstance(i, int) else rng.normal())

    for fun in (Model().loss, functools.partial(Model.loss, Model())):
        np.testing.assert_allclose(jaxfd.grad(fun)(jnp.asarray(X), 3), 3, rtol=1e-6)

    def helped(x, i):
        return Model().loss(x, i) + 0 * rng.normal()

    np.testing.assert_allclose(jaxfd.grad(helped)(jnp.asarray(X), 3), 3, rtol=1e-6)


def test_zero_is_not_traced_where_types_are_asked_for():
    gradient = jaxfd.grad(lambda x, i: x * (2 if isinstance(i, int) else 3))
    assert gradient(1.0, 0) == pytest.approx(2)


def test_what_is_only_told_may_be_traced():
    def told(x, i):
        if x.ndim > 1:
            raise ValueError(f"no row: {i}")
        print(f"called with {i}")
        return SUM(x) * i

    fun, traced = counted(told)
    gradient = jaxfd.grad(fun)
    for i in (1, 2, 3):
        np.testing.assert_allclose(gradient(jnp.asarray(X), i), i, rtol=1e-6)
    assert traced[0] == 1


OTHERS = {
    "if": (lambda x, p: SUM(x) if p > 0.5 else SUM(x * x), (0.7, 0.2, float("nan"), np.float32(2))),
    "floor": (lambda x, p: SUM(x) * math.floor(p), (2.7, 3.2)),
    "truth": (
        lambda x, p: SUM(x) if p else SUM(x * x),
        (0.0, 2.0, np.bool_(True), np.bool_(False)),
    ),
    "sign of zero": (lambda x, p: SUM(x) * math.copysign(1, p), (0.0, -0.0, 0.0)),
    "complex": (lambda x, z: SUM(x) if z.real > 0 else SUM(x * x), (1 + 2j, -1 - 1j)),
    "range": (lambda x, n: sum(SUM(x * k) for k in range(n)), (np.int64(3), np.int32(2), 4)),
    "slice": (lambda x, n: SUM((x * x)[:n]), (np.uint8(1), np.int64(2))),
    "shape": (lambda x, n: SUM(x[:, None] * jnp.ones((2, n))), (np.int64(3), 2)),
}


class TestOtherNumbers:
    """Floats, complex numbers and NumPy's: traced, and fixed where that is no use."""

    @pytest.mark.parametrize("name", OTHERS)
    def test_fixed(self, name):
        fun, numbers = OTHERS[name]
        fun, traced = counted(fun)
        gradient = jaxfd.grad(fun)
        gradients(fun, [(number,) for number in numbers], gradient)
        before = traced[0]
        for number in numbers:
            gradient(jnp.asarray(X), number)
        assert traced[0] == before

    @pytest.mark.parametrize("name", ["range", "slice", "shape"])
    def test_integers_of_numpy_in_hooks(self, name):
        fun, numbers = OTHERS[name]
        hook = jaxfd.differentiable(fun)
        gradients(fun, [(number,) for number in numbers], jax.grad(hook))

    def test_traced(self):
        fun, traced = counted(lambda x, p, n: SUM(x) * p * jnp.asarray(n, x.dtype))
        gradient = jaxfd.grad(fun)
        for p, n in ((0.5, np.int64(2)), (0.7, np.int64(3))):
            np.testing.assert_allclose(gradient(jnp.asarray(X), p, n), p * n, rtol=1e-6)
        assert traced[0] == 1

    def test_only_what_must_be_is_fixed(self):
        fun, traced = counted(lambda x, n, p: sum(SUM(x) * p for _ in range(n)))
        gradient = jaxfd.grad(fun)
        gradient(jnp.asarray(X), 2, 0.5)
        before = traced[0]
        for p in (0.1, 0.2, 0.3):
            np.testing.assert_allclose(gradient(jnp.asarray(X), 2, p), 2 * p, rtol=1e-6)
        assert traced[0] == before


class TestEstimates:
    """A search on the host traces integers as kernels do."""

    def test_fixed(self):
        fun = lambda x, n: sum(x**k for k in range(n))  # noqa: E731
        for n in (3, 4, 3):
            wanted = sum(k * 1.5 ** (k - 1) for k in range(1, n))
            assert jaxfd.estimate(fun)(1.5, n).grad == pytest.approx(wanted, rel=1e-6)

    def test_other_numbers(self):
        fun = lambda x, n: SUM(x * x) * 2**-n  # noqa: E731
        found = jaxfd.estimate(fun)(jnp.asarray(X), 2).grad
        np.testing.assert_allclose(found, X / 2, rtol=1e-6)

    def test_traced_once(self):
        fun, traced = counted(lambda x, i: SUM(x * x) * i)
        found = jaxfd.estimate(fun)
        found(jnp.asarray(X), 1)
        before = traced[0]
        for i in (2, 3, 4):
            np.testing.assert_allclose(found(jnp.asarray(X), i).grad, 2 * i * X, rtol=1e-6)
        assert traced[0] == before

    def test_large_numbers(self):
        cube = lambda x, i: SUM(x * x) * (i * i * i) / 1e9  # noqa: E731
        with x64(False):
            found = jaxfd.estimate(cube)
            for i in (3, 1290, 5):
                gradient = found(jnp.asarray(X, jnp.float32), i).grad
                np.testing.assert_allclose(gradient, 2 * X * i**3 / 1e9, rtol=1e-2, atol=1e-9)


def test_large_numbers_do_not_overflow():
    """int32 ends at 2e9, Python's integers do not."""
    cube = lambda x, i: SUM(x * x) * (i * i * i) / 1e9  # noqa: E731
    with x64(False):
        x = jnp.asarray(X, jnp.float32)
        gradient = jaxfd.grad(cube)
        for i in (3, 1000, 1200, 5, 1290):
            wanted = 2 * X * i**3 / 1e9
            np.testing.assert_allclose(gradient(x, i), wanted, rtol=1e-2, atol=1e-9)
        far = jaxfd.grad(lambda x, i: SUM(x * x) * (i / 2**40))
        for i in (2**40, 2**30, 2**41):
            np.testing.assert_allclose(far(x, i), 2 * X * i / 2**40, rtol=1e-2)


def test_only_what_must_be_is_fixed():
    fun, traced = counted(lambda x, n, i: sum(SUM(x * x) * i for _ in range(n)))
    gradient = jaxfd.grad(fun)
    x = jnp.asarray(X)
    gradient(x, 2, 1)
    first = traced[0]
    for i in range(2, 6):
        np.testing.assert_allclose(gradient(x, 2, i), 4 * i * X, rtol=1e-5)
    assert traced[0] == first
    np.testing.assert_allclose(gradient(x, 3, 1), 6 * X, rtol=1e-5)
    assert traced[0] == first + 1


def test_by_name_and_in_trees():
    fun, traced = counted(lambda x, *, i, tree: SUM(x) * i * tree["a"][0])
    gradient = jaxfd.grad(fun)
    for i in (1, 2, 3):
        found = gradient(jnp.asarray(X), i=i, tree={"a": (i, "word")})
        np.testing.assert_allclose(found, i * i, rtol=1e-5)
    assert traced[0] == 1


def test_truth_values_are_fixed():
    """There are two of them, and ``True + True`` is 2."""
    fun, traced = counted(lambda x, a, b: SUM(x) * (a + b) if a else SUM(x))
    gradient = jaxfd.grad(fun)
    for a, b in ((True, True), (True, False), (False, True), (True, True)):
        wanted = a + b if a else 1
        np.testing.assert_allclose(gradient(jnp.asarray(X), a, b), wanted, rtol=1e-6)
    assert traced[0] == 3


def test_dtypes_are_those_of_known_integers(dtype):
    x = jnp.asarray(X, dtype)
    value, gradient = jaxfd.value_and_grad(lambda x, i: SUM(x) * i + i)(x, 3)
    assert (value.dtype, gradient.dtype) == (dtype, dtype)
    assert not value.weak_type


def test_programs_for_values_are_bounded(monkeypatch):
    monkeypatch.setattr("jaxfd._estimate.compilation._VALUES", 2)
    fun, traced = counted(lambda x, n: x * len(range(n)))
    gradient = jaxfd.grad(fun)
    gradient(1.0, 1)
    seen = []
    for n in (2, 1, 3, 1, 2):
        before = traced[0]
        assert gradient(1.0, n) == pytest.approx(n)
        seen.append(traced[0] - before)
    assert seen == [1, 0, 1, 0, 1]


class TestErrors:
    def test_the_functions_own(self):
        def fun(x, i):
            raise ValueError(f"mine, {type(i).__name__}")

        for gradient in (jaxfd.grad(fun), jax.grad(jaxfd.differentiable(fun))):
            with pytest.raises(ValueError, match="mine, int"):
                gradient(1.0, 3)

    def test_after_an_error_integers_are_traced_as_before(self):
        fail = [True]

        def inner(x, i):
            if fail:
                raise ValueError("mine")
            return x * i

        fun, traced = counted(inner)
        gradient = jaxfd.grad(fun)
        with pytest.raises(ValueError, match="mine"):
            gradient(1.0, 2)
        fail.clear()
        traced[0] = 0
        assert [round(float(gradient(1.0, i))) for i in (2, 3, 4)] == [2, 3, 4]
        assert traced[0] == 1

    def test_concrete_arguments(self):
        with pytest.raises(TypeError, match="cannot trace"):
            jaxfd.grad(lambda x, i: np.sin(x) * i)(1.0, 2)

    def test_differentiated(self):
        with pytest.raises(TypeError, match="argument 1 is int64"):
            jaxfd.grad(lambda x, i: x * i, argnums=1)(1.0, 2)


def test_allow_int():
    fun, traced = counted(lambda p: SUM(p["w"] ** 2) * p["n"])
    for n in (2, 3):
        found = jaxfd.grad(fun, allow_int=True)({"w": jnp.asarray(X), "n": n})
        np.testing.assert_allclose(found["w"], 2 * n * X, rtol=1e-5)
        assert found["n"].dtype == jax.dtypes.float0
    assert traced[0] == 1


def test_complex_steps_keep_exact_powers():
    """A power of a negative number drowns a complex step unless its exponent is known."""
    found = jaxfd.grad(lambda x, i: SUM(x**i), method=jaxfd.ComplexStep())(jnp.asarray(X), 3)
    np.testing.assert_allclose(found, 3 * X**2, rtol=1e-14)


def test_aux_and_second_derivatives():
    x = jnp.asarray(X)
    (value, aux), _ = jaxfd.value_and_grad(lambda x, i: (SUM(x) * i, i), has_aux=True)(x, 3)
    assert (round(float(value)), int(aux)) == (-3, 3)
    found = jaxfd.hessian(lambda x, i: SUM(x**i))(x, 3)
    np.testing.assert_allclose(found, np.diag(6 * X), atol=1e-3)


def test_black_boxes_get_pythons_integers():
    seen = set()

    def fun(x, i):
        seen.add(type(i))
        return float(x) * i

    box = jaxfd.blackbox(fun, jax.ShapeDtypeStruct((), np.float64))
    for i in (2, 3):
        assert jaxfd.grad(box)(1.0, i) == pytest.approx(i)
        assert jax.grad(box)(1.0, i) == pytest.approx(i)
    assert seen == {int}
