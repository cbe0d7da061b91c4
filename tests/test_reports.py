"""What users reported: each test failed before it was mended."""

import dataclasses
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd
import jaxfd.optim

NUMBER = jax.ShapeDtypeStruct((), np.float64)


# --- black boxes that return the same buffer each time ---------------------------------------


def _number():
    """The usual shape of a wrapped library: one buffer, written to at each call."""
    buffer = np.empty(1)

    def simulate(x):
        buffer[0] = x @ x
        return buffer[0:1].reshape(())

    return simulate


def _tree():
    buffer = np.empty(2)

    def simulate(x):
        buffer[:] = x @ x, x.sum()
        return {"both": buffer, "one": (buffer[:1], memoryview(buffer[1:]))}

    return simulate


TREE = {
    "both": jax.ShapeDtypeStruct((2,), np.float64),
    "one": (jax.ShapeDtypeStruct((1,), np.float64),) * 2,
}


class OneThread:
    """An executor of which jaxfd knows nothing; points run here, and nothing is pickled."""

    def submit(self, fun, *args):
        future = Future()
        future.set_result(fun(*args))
        return future


class TestOneBuffer:
    """A function may return the same array each time, as wrapped libraries do."""

    x = np.array([1.0, 2.0, 3.0])
    rows = np.arange(12.0).reshape(4, 3)

    @pytest.fixture(params=["plain", "retries", "chunks", "threads", "own executor"])
    def options(self, request):
        if request.param == "threads":
            with ThreadPoolExecutor(1) as pool:
                yield {"executor": pool, "chunksize": 4}
        elif request.param == "own executor":
            yield {"executor": OneThread()}
        else:
            yield {
                "plain": {},
                "retries": {"retries": 1},
                "chunks": {"chunksize": 5, "retries": 1},
            }[request.param]

    def test_gradients(self, options):
        box = jaxfd.blackbox(_number(), NUMBER, **options)
        for transform in (jax.value_and_grad, jaxfd.value_and_grad):
            value, slopes = transform(box)(self.x)
            assert value == 14
            np.testing.assert_allclose(slopes, 2 * self.x, rtol=1e-8)

    def test_values_of_several_calls(self, options):
        box = jaxfd.blackbox(_number(), NUMBER, **options)
        want = np.sum(self.rows**2, axis=1)
        np.testing.assert_array_equal(jax.vmap(box)(self.rows), want)
        np.testing.assert_array_equal([box(row) for row in self.rows], want)
        np.testing.assert_array_equal(jax.jit(jax.vmap(box))(self.rows), want)

    def test_trees(self, options):
        box = jaxfd.blackbox(_tree(), TREE, **options)
        found = jax.vmap(box)(self.rows)
        both = np.stack([np.sum(self.rows**2, axis=1), np.sum(self.rows, axis=1)], 1)
        np.testing.assert_array_equal(found["both"], both)
        np.testing.assert_array_equal(np.concatenate(found["one"], 1), both)

    def test_views_of_the_argument(self, options):
        held = np.empty(3)

        def simulate(x):
            held[:] = x
            x[:] = 7.0  # whoever is given an array may write to it
            return held[::-1]

        box = jaxfd.blackbox(simulate, jax.ShapeDtypeStruct((3,), np.float64), **options)
        if options:
            np.testing.assert_array_equal(jax.vmap(box)(self.rows), self.rows[:, ::-1])
        box = jaxfd.blackbox(lambda x: x[:2], jax.ShapeDtypeStruct((2,), np.float64), **options)
        np.testing.assert_array_equal(jax.vmap(box)(self.rows), self.rows[:, :2])

    def test_a_value_outlives_the_next_call(self):
        buffer = np.empty(1024)

        def simulate(x):
            buffer[:] = x
            return buffer

        box = jaxfd.blackbox(simulate, jax.ShapeDtypeStruct((1024,), np.float64))
        first, second = box(1.0), box(2.0)
        assert (first[0], second[0]) == (1.0, 2.0)

    def test_vectorised_in_chunks(self):
        buffer = np.empty(64)

        def simulate(x):
            found = buffer[: len(x)]
            np.sum(x**2, axis=1, out=found)
            return found

        box = jaxfd.blackbox(simulate, NUMBER, vectorized=True)
        found = jaxfd.grad(box, chunk_size=2)(self.x)
        np.testing.assert_allclose(found, 2 * self.x, rtol=1e-8)
        box = jaxfd.blackbox(simulate, NUMBER, vectorized=True, chunksize=2, retries=1)
        np.testing.assert_array_equal(jax.vmap(box)(self.rows), np.sum(self.rows**2, axis=1))

    def test_minimize(self):
        box = jaxfd.blackbox(_number(), jax.ShapeDtypeStruct((), np.float32))
        result = jaxfd.optim.minimize(box, self.x.astype(np.float32))
        assert result.converged
        assert result.value < 1e-8

    def test_own_kinds_of_results(self):
        @jax.tree_util.register_dataclass
        @dataclasses.dataclass
        class Pair:
            first: object
            second: object

        buffer = np.empty(())
        lock = threading.Lock()

        def simulate(x):
            with lock:
                buffer[()] = x
            return Pair(buffer, buffer)

        box = jaxfd.blackbox(simulate, Pair(NUMBER, NUMBER), retries=1, chunksize=3)
        np.testing.assert_array_equal(jax.vmap(box)(np.arange(3.0)).second, np.arange(3.0))


# --- Python's numbers ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("kind", ["traced", "black box"])
def test_jvp_of_pythons_numbers(kind, mode):
    """Outside of jit, JAX hands tangents over as they came."""
    if kind == "traced":
        fun = jaxfd.differentiable(jnp.sin, mode=mode)
    else:
        fun = jaxfd.blackbox(np.sin, NUMBER, mode=mode)
    for x, t in ((1.0, 2.0), (np.float64(1.0), 2.0), (1.0, np.float64(2.0))):
        value, slope = jax.jvp(fun, (x,), (t,))
        assert value == pytest.approx(np.sin(1.0), abs=1e-9)
        assert slope == pytest.approx(2 * np.cos(1.0), abs=1e-9)
        assert (value.dtype, slope.dtype) == (np.float64, np.float64)


def test_other_ways_of_pythons_numbers():
    fun = jaxfd.differentiable(lambda x, y: x * y["a"] ** 2)
    _, slope = jax.jvp(fun, (3.0, {"a": 2.0}), (1.0, {"a": 1.0}))
    assert slope == pytest.approx(16.0, abs=1e-7)
    sine = jaxfd.differentiable(jnp.sin)
    assert jax.linearize(sine, 1.0)[1](1.0) == pytest.approx(np.cos(1.0), abs=1e-9)
    _, second = jax.jvp(jax.grad(sine), (1.0,), (1.0,))
    assert second == pytest.approx(-np.sin(1.0), abs=1e-6)
    wave = jaxfd.differentiable(lambda z: z**2)
    assert jax.jvp(wave, (1 + 2j,), (1j,))[1] == pytest.approx(-4 + 2j, abs=1e-8)
    slope = jaxfd.differentiable(jnp.sin, mode="forward")
    with pytest.raises(TypeError, match="asked for the second derivative"):
        jax.jvp(lambda x: jax.jvp(slope, (x,), (1.0,))[1], (1.0,), (1.0,))


# --- complex steps ---------------------------------------------------------------------------

MATRIX = np.diag([4.0, 5.0, 6.0]) + np.arange(9.0).reshape(3, 3) / 10


def _along(x, other):
    """A constant in the dtype that points have."""
    return jnp.asarray(other).astype(np.promote_types(x.dtype, np.asarray(other).dtype))


def _scanned(x):
    return jax.lax.scan(lambda c, _: ((c[1], jnp.conj(c[1])), None), (x, x), length=3)[0][0].sum()


def _turned_in_a_branch(x):
    return jax.lax.cond(x[0].real > 0, lambda x: x[0] * jnp.conj(x[1]), lambda x: x[0], x)


def _turned_in_a_while(x):
    def step(state):
        return state[0] + 1, state[1] * jnp.conj(state[1])

    return jax.lax.while_loop(lambda state: state[0] < 2, step, (0, x[0]))[1]


def _waved(x):
    return jnp.sum(jnp.fft.ifft(jnp.fft.fft(x) * 2.0) ** 2)


def _factored(x):
    lower = jnp.linalg.cholesky(_along(x, MATRIX @ MATRIX.T) + jnp.diag(x))
    return jnp.sum(lower)


class TestComplexStep:
    """What takes the imaginary part away is found, and nothing else is refused."""

    x = np.array([0.3, 1.2, 0.7])

    @pytest.mark.parametrize(
        ("fun", "what"),
        [
            (lambda x: jnp.vdot(x, x), "conj"),
            (lambda x: jnp.sum(x * jnp.conj(x)), "conj"),
            (lambda x: jnp.sum(x * jnp.abs(x)), "abs"),
            (lambda x: jnp.sum(x * jnp.sign(x)), "sign"),
            (lambda x: jnp.sum(x * x.real.astype(x.dtype)), "real"),
            (lambda x: jnp.sum(x + jnp.angle(x).astype(x.dtype)), r"imag \(in angle\)"),
            (lambda x: jnp.var(x) + x[0], r"conj \(in _?var\)"),
            (lambda x: jnp.linalg.norm(x) * x[0], r"conj \(in norm\)"),
            (lambda x: jnp.sum(jax.nn.softplus(x)), r"\w+ \(in softplus\)"),
            (lambda x: jnp.convolve(x, x)[1], r"conv_general_dilated \(in"),
            (jax.jit(lambda x: jax.jit(lambda x: jnp.conj(x))(x).sum()), "conj"),
            (jax.checkpoint(lambda x: jnp.conj(x).sum()), "conj"),
            (_scanned, "conj"),
            (_turned_in_a_branch, "conj"),
            (_turned_in_a_while, "conj"),
            (_waved, "fft"),
            (_factored, "conj"),
        ],
    )
    def test_refused(self, fun, what):
        slope = jaxfd.grad(fun, method=jaxfd.ComplexStep())
        wanted = pytest.raises(TypeError, match=rf"needs an analytic .* applies {what}")
        with jax.numpy_dtype_promotion("standard"), wanted:
            slope(self.x)

    def test_refused_by_every_door(self):
        def fun(x):
            return jnp.vdot(x, x)

        step, x = jaxfd.ComplexStep(), jnp.asarray(self.x)
        hooked = [jaxfd.differentiable(fun, method=step, mode=m) for m in ("reverse", "recompute")]
        for use in (
            lambda: jax.jit(jaxfd.value_and_grad(fun, method=step))(x),
            lambda: jaxfd.jacobian(fun, method=step)(x),
            lambda: jaxfd.jvp(fun, (x,), (x,), method=step),
            lambda: jaxfd.derivative(lambda t: t * jnp.conj(t), method=step)(1.0),
            *(lambda f=f: jax.grad(f)(x) for f in hooked),
        ):
            with pytest.raises(TypeError, match=r"applies conj .*Use Central\(\)"):
                use()

    def test_turned_inside_of_custom_rules(self):
        @jax.custom_vjp
        def square(x):
            return x * jnp.conj(x)

        square.defvjp(lambda x: (square(x), x), lambda x, ct: (2 * x * ct,))
        with pytest.raises(TypeError, match="applies conj"):
            jaxfd.grad(lambda x: square(x).sum(), method=jaxfd.ComplexStep())(self.x)

    @pytest.mark.parametrize(
        "fun",
        [
            lambda x: jnp.sum(jnp.where(x > 0.5, x**2, -x)),
            lambda x: jnp.sum(jnp.where(jnp.abs(x) > 0.5, x**2, -x)),
            lambda x: x[jnp.argmax(jnp.abs(x))] ** 2,
            lambda x: jnp.sum(jnp.sort(x) * _along(x, [1.0, 2.0, 3.0])),
            lambda x: jax.lax.sort((jnp.abs(x), x), num_keys=1)[1][0],
            lambda x: jnp.sum(x * jnp.sign(x.real).astype(x.dtype)),
            lambda x: jnp.sum(x - jnp.floor(x.real).astype(x.dtype)),
            lambda x: jnp.vdot(_along(x, [1.0, 2.0, 3.0]), x) * jnp.abs(_along(x, -2.0)),
            lambda x: jnp.sum(jax.nn.relu(x) * jax.nn.gelu(x)) + jax.nn.logsumexp(x),
            lambda x: jnp.linalg.det(_along(x, MATRIX) + jnp.diag(x)),
            lambda x: jnp.sum(jnp.linalg.solve(_along(x, MATRIX) + jnp.diag(x), x)),
            lambda x: jnp.sum(jax.scipy.linalg.expm(_along(x, MATRIX) / 10 + jnp.diag(x))),
            lambda x: jnp.sum(jnp.nan_to_num(x) ** 2),
            lambda x: jax.lax.complex(x[0].real, x[0].imag) ** 2,
            lambda x: jax.lax.scan(lambda c, a: (c * a, jnp.abs(c)), x[0], x)[0],
            lambda x: jax.lax.while_loop(lambda c: jnp.abs(c) < 9, lambda c: c * c + 1, x[0]),
        ],
    )
    def test_taken(self, fun):
        with jax.numpy_dtype_promotion("standard"):
            found = jaxfd.grad(fun, method=jaxfd.ComplexStep())(self.x)
            exact = jax.jacfwd(lambda x: fun(x.astype(np.complex128)).real)(self.x)
        np.testing.assert_allclose(found, exact, rtol=1e-8)

    def test_of_constant_arguments(self):
        def fun(x, data):
            return jnp.sum(x * x) * jnp.vdot(data, data).real.astype(x.dtype)

        found = jaxfd.grad(fun, method=jaxfd.ComplexStep())(self.x, self.x * (1 + 1j))
        np.testing.assert_allclose(found, 4 * self.x * np.sum(self.x**2), rtol=1e-12)
        hooked = jaxfd.differentiable(lambda x: fun(x, _along(x, 1j)), method=jaxfd.ComplexStep())
        np.testing.assert_allclose(jax.grad(hooked)(jnp.asarray(self.x)), 2 * self.x, rtol=1e-12)

    def test_auxiliary_data_may_be_anything(self):
        def fun(x):
            return jnp.sum(x * x), jnp.abs(x)

        found, _ = jaxfd.grad(fun, has_aux=True, method=jaxfd.ComplexStep())(self.x)
        np.testing.assert_allclose(found, 2 * self.x, rtol=1e-12)


# --- random methods --------------------------------------------------------------------------


class TestRandomEstimates:
    key = jax.random.key(0)
    x = np.arange(1.0, 9.0)

    @staticmethod
    def square(x):
        return (x * x).sum()

    @pytest.mark.parametrize("options", [{}, {"combine": "least_squares"}])
    @pytest.mark.parametrize("kind", ["traced", "black box"])
    @pytest.mark.parametrize("count", [1, 3, 8])
    def test_coordinates_that_were_not_drawn(self, kind, count, options):
        fun = self.square if kind == "traced" else jaxfd.blackbox(self.square, NUMBER)
        method = jaxfd.RandomCoordinates(self.key, count, **options)
        found = jax.jit(jaxfd.estimate(fun, method=method))(jnp.asarray(self.x))
        drawn = np.asarray(found.grad) != 0
        assert drawn.sum() == count
        np.testing.assert_array_equal(np.isinf(found.error), ~drawn)

    def test_several_leaves_bounds_and_calls(self):
        def fun(tree):
            return jnp.sum(tree["a"] ** 2) + jnp.sum(tree["b"])

        tree = {"a": jnp.asarray(self.x), "b": jnp.ones((2, 2), np.float32)}
        method = jaxfd.RandomCoordinates(self.key, 5)
        bounds = ({"a": 0.0, "b": 1.0}, {"a": 8.0, "b": 1.0})

        def one(tree):
            return jaxfd.estimate(fun, method=method, bounds=bounds)(tree)

        with jax.numpy_dtype_promotion("standard"):
            found = jax.vmap(one)(jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), tree))
        unknown = sum(int(np.sum(np.isinf(leaf))) for leaf in jax.tree.leaves(found.error))
        assert unknown == 2 * (12 - 5)
        assert not any(np.any(np.isnan(leaf)) for leaf in jax.tree.leaves(found.error))

    def test_a_lost_sample_leaves_its_entry_unknown(self):
        def fun(x):
            return np.where(x[2] == 3.0, np.sum(x**2), np.nan)

        box = jaxfd.blackbox(fun, NUMBER)
        found = jaxfd.estimate(box, method=jaxfd.RandomCoordinates(self.key, 8))(self.x)
        np.testing.assert_array_equal(np.isinf(found.error), np.arange(8) == 2)

    def test_printed_as_what_it_is(self):
        found = jaxfd.estimate(self.square, method=jaxfd.SPSA(self.key, 4))(self.x)
        assert not found.bound
        assert "standard error" in str(found)
        assert "error bound" not in str(found)
        assert jax.tree.map(lambda leaf: leaf, found).bound is False
        found = jaxfd.estimate(self.square)(self.x)
        assert found.bound
        assert "error bound" in str(found)
        lines = str(found).splitlines()[1:]
        assert len({len(line) for line in lines}) == 1


class Four:
    def __index__(self):
        return 4

    def __repr__(self):
        return "Four()"


@pytest.mark.parametrize("count", [np.int64(4), np.uint8(4), np.array(4), Four()], ids=repr)
def test_numbers_of_samples(count):
    key = jax.random.key(0)
    method = jaxfd.SPSA(key, count)
    assert type(method.num_samples) is int
    assert method == jaxfd.SPSA(key, 4)
    assert jaxfd.LowRank(key, 4, rank=count).rank == 4
    assert jax.tree.structure(method) == jax.tree.structure(jaxfd.SPSA(key, 4))


@pytest.mark.parametrize("count", [np.float64(4), np.True_, np.array([4]), "4"], ids=repr)
def test_what_is_no_number_of_samples(count):
    with pytest.raises(TypeError, match="SPSA: num_samples must be an integer, got"):
        jaxfd.SPSA(jax.random.key(0), count)


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


# --- tangents of any size --------------------------------------------------------------------


class TestTangents:
    """A derivative is as long as its tangent, from the smallest to the largest."""

    @staticmethod
    def wave(x):
        return jnp.stack([jnp.sum(jnp.sin(x)), x[0] * x[1]])

    @staticmethod
    def _box(mode="reverse"):
        return jaxfd.blackbox(
            lambda x: np.stack([np.sum(np.sin(x)), x[0] * x[1]]),
            jax.ShapeDtypeStruct((2,), np.float32),
            mode=mode,
        )

    @pytest.mark.parametrize("size", [3e-37, 1e-20, 1e38])
    @pytest.mark.parametrize("kind", ["jvp", "box", "forward", "forward box", "ComplexStep"])
    def test_sizes(self, kind, size):
        x = jnp.asarray([0.3, 1.0, -2.0], np.float32)
        unit = np.asarray([1.0, -0.5, 0.25], np.float32)
        jvp = {
            "jvp": lambda t: jaxfd.jvp(self.wave, (x,), (t,)),
            "box": lambda t: jaxfd.jvp(self._box(), (x,), (t,)),
            "forward": lambda t: jax.jvp(
                jaxfd.differentiable(self.wave, mode="forward"), (x,), (t,)
            ),
            "forward box": lambda t: jax.jvp(self._box("forward"), (x,), (t,)),
            "ComplexStep": lambda t: jaxfd.jvp(self.wave, (x,), (t,), method=jaxfd.ComplexStep()),
        }[kind]
        exact = np.asarray(jax.jvp(self.wave, (x,), (jnp.asarray(unit),))[1], np.float64)
        factor = np.float32(size)
        found = np.asarray(jvp(jnp.asarray(unit * factor))[1], np.float64)
        np.testing.assert_allclose(found / np.float64(factor), exact, rtol=1e-3)
        both = jax.jit(jax.vmap(jvp))(jnp.asarray(np.stack([unit * factor, unit])))[1]
        np.testing.assert_allclose(both[0], found, rtol=1e-4)
        np.testing.assert_allclose(both[1], exact, rtol=1e-3)

    def test_powers_of_two_change_nothing(self):
        x, unit = jnp.asarray([0.3, 1.0, -2.0], np.float32), np.float32([1.0, -0.5, 0.25])
        jvp = jax.jit(lambda t: jaxfd.jvp(self.wave, (x,), (t,))[1])
        for power in (-60, -1, 7, 80):
            factor = np.float32(2.0**power)
            np.testing.assert_array_equal(jvp(unit * factor), jvp(unit) * factor)

    def test_zero_and_not_finite(self):
        x = jnp.asarray([0.3, 1.0, -2.0], np.float32)
        for fun in (self.wave, self._box()):
            found = jaxfd.jvp(fun, (x,), (jnp.zeros_like(x),))[1]
            np.testing.assert_array_equal(found, 0)
            found = jaxfd.jvp(fun, (x,), (jnp.full_like(x, np.nan),))[1]
            assert np.all(np.isnan(found))
        found = jaxfd.jvp(self.wave, (x,), (x.at[0].set(np.inf),))[1]
        assert not np.any(np.isfinite(found))

    def test_complex_tangents_and_half_precision(self):
        z, t = jnp.asarray([1 + 2j, 0.5 - 1j], np.complex64), np.complex64([1, 1j])
        for size in (1e-30, 1e30):
            found = jaxfd.jvp(lambda z: z**2, (z,), (jnp.asarray(t * np.float32(size)),))[1]
            np.testing.assert_allclose(np.asarray(found) / np.float32(size), 2 * z * t, rtol=1e-4)
        x = jnp.ones(3, np.float16)
        found = jaxfd.jvp(jnp.sin, (x,), (x * np.float16(3e4),))[1]
        np.testing.assert_allclose(found.astype(np.float32), 3e4 * np.cos(1.0), rtol=1e-2)

    def test_hvp(self):
        x, v = jnp.asarray([0.3, 1.0], np.float32), np.float32([1.0, -0.5])
        for size in (1e-20, 1e20):
            factor = np.float32(size)
            found = jaxfd.hvp(lambda x: jnp.sum(jnp.sin(x)), (x,), (jnp.asarray(v * factor),))
            np.testing.assert_allclose(found / factor, -np.sin(x) * v, rtol=1e-2)

    def test_the_transpose(self):
        fun = jaxfd.differentiable(self.wave, mode="forward")
        x = jnp.asarray([0.3, 1.0, -2.0], np.float32)
        for size in (1e-20, 1e20):
            factor = np.float32(size)
            _, push = jax.linearize(fun, x)
            pull = jax.linear_transpose(push, x)
            cotangent = jnp.asarray([factor, 0 * factor])
            np.testing.assert_allclose(pull(cotangent)[0] / factor, np.cos(x), rtol=1e-3)

    def test_differentiated_itself(self):
        x, t = jnp.asarray([0.3, 1.0, -2.0]), jnp.asarray([1e-9, 2e-9, 0.0])
        slopes = jax.grad(lambda t: jaxfd.jvp(self.wave, (x,), (t,))[1][0])(t)
        np.testing.assert_allclose(slopes, np.cos(x), rtol=1e-4)


# --- functions that close over what is differentiated ----------------------------------------


class TestClosures:
    @staticmethod
    def scaled(mode):
        return lambda a: jaxfd.differentiable(lambda x: a * x, mode=mode)(2.0)

    @pytest.mark.parametrize("mode", ["reverse", "forward", "recompute"])
    def test_say_so(self, mode):
        fun = self.scaled(mode)
        for use in (
            lambda: jax.grad(fun)(1.0),
            lambda: jax.jit(jax.grad(fun))(1.0),
            lambda: jax.vmap(jax.grad(fun))(jnp.ones(3)),
            lambda: jax.grad(lambda a: jax.vmap(fun)(a * jnp.ones(3)).sum())(1.0),
            lambda: jax.jvp(fun, (1.0,), (1.0,)),
        ):
            with pytest.raises(TypeError, match=r"closes over .* pass it as an argument"):
                use()

    @pytest.mark.parametrize("mode", ["reverse", "forward", "recompute"])
    def test_what_is_not_differentiated_may_be_closed_over(self, mode):
        fun = self.scaled(mode)
        assert jax.jit(fun)(3.0) == 6.0
        np.testing.assert_array_equal(jax.vmap(fun)(jnp.arange(3.0)), [0, 2, 4])
        assert jaxfd.grad(fun)(3.0) == pytest.approx(2.0)

        def slope(a):
            return jax.grad(jaxfd.differentiable(lambda x: a * x, mode=mode))(1.0)

        np.testing.assert_allclose(jax.jit(jax.vmap(slope))(jnp.arange(3.0)), [0, 1, 2], rtol=1e-8)

        def stopped(a):
            fixed = jax.lax.stop_gradient(a)
            return jaxfd.differentiable(lambda x: fixed * x, mode=mode)(a)

        assert jax.jit(jax.grad(stopped))(3.0) == pytest.approx(3.0)
