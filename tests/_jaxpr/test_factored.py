"""Factored evaluation: products with a low-rank move give what the moved matrix gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _directions import KEY, directions
from jax.flatten_util import ravel_pytree

import jaxfd
from jaxfd import LowRank
from jaxfd._jaxpr.factored import Factored
from jaxfd._jaxpr.trace import trace

RNG = np.random.default_rng(0)
M, K = 12, 10
A = RNG.normal(size=(5, M))
B = RNG.normal(size=(5, K))
BATCH = RNG.normal(size=(3, 5, M))
W = RNG.normal(size=(M, K)) / 3
V = RNG.normal(size=(K, M)) / 3


@jax.custom_vjp
def cube(w):
    return A @ w**3


cube.defvjp(lambda w: (cube(w), w), lambda w, ct: (3 * w**2 * (A.T @ ct),))


@jax.custom_jvp
def product(w):
    return jnp.tanh(A @ w)


product.defjvp(lambda primals, tangents: (product(primals[0]), A @ tangents[0]))


FUNCTIONS = {
    "x @ W": lambda w, v: A @ w,
    "W @ x": lambda w, v: w @ B.T,
    "W @ vector": lambda w, v: w @ B[0],
    "vector @ W": lambda w, v: A[0] @ w,
    "W.T @ x": lambda w, v: w.T @ A.T,
    "x @ W.T": lambda w, v: B @ w.T,
    "W.T.T": lambda w, v: A @ w.T.T,
    "einsum": lambda w, v: jnp.einsum("mk,bim->kib", w, BATCH),
    "einsum of two": lambda w, v: jnp.einsum("mk,km->m", w, v),
    "batched inputs": lambda w, v: BATCH @ w,
    "all of W": lambda w, v: jnp.tensordot(w, w + 1.0, 2) * jnp.ones(2),
    "twice": lambda w, v: (A @ w) * jnp.sum(w.T @ A[0]),
    "W1 @ W2": lambda w, v: w @ v,
    "W @ W.T": lambda w, v: w @ w.T,
    "one after the other": lambda w, v: jnp.tanh(A @ w) @ v,
    "entries": lambda w, v: jnp.sin(w) + w[0] * w[:, :1],
    "jit": lambda w, v: jax.jit(lambda w: jnp.tanh(A @ w) @ jax.jit(lambda v: v)(v))(w),
    "relu": lambda w, v: jax.nn.relu(A @ w) @ jax.nn.relu(v),
    "softmax": lambda w, v: jax.nn.softmax(A @ w, axis=-1) @ jax.nn.softmax(v),
    "custom_jvp": lambda w, v: product(w),
    "custom_vjp": lambda w, v: cube(w),
    "scan": lambda w, v: jax.lax.scan(lambda h, x: (jnp.tanh(h @ v @ w + x @ w), h), B[0], A)[0],
    "loop": lambda w, v: jax.lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ v @ w), B),
    "while": lambda w, v: jax.lax.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.tanh(s[1] @ v) @ w), (0, B)
    )[1],
    "cond": lambda w, v: jax.lax.cond(A[0, 0] > 9, lambda w: A @ w, lambda w: 2 * (A @ w), w),
    "vmap": lambda w, v: jax.vmap(lambda x: jnp.tanh(x @ w))(A),
    "vmap over W": lambda w, v: jax.vmap(lambda row: row @ B.T)(w),
    "stacked": lambda w, v: BATCH @ jnp.stack([w, 2 * w, w]),
    "gradient inside": lambda w, v: jax.grad(lambda w: jnp.sum(jnp.tanh(A @ w)))(w),
    "cast": lambda w, v: (A.astype(np.float32) @ w.astype(np.float32)).astype(np.float64),
    "integers": lambda w, v: (1e3 * w).astype(np.int32).astype(np.float64),
    "itself": lambda w, v: w,
    "reshaped": lambda w, v: A[:, :4] @ w.reshape(4, -1),
    "preferred": lambda w, v: jax.lax.dot(
        A.astype(np.float32), w.astype(np.float32), preferred_element_type=np.float64
    ),
}


# What is done without ever adding a move to its matrix.
THIN = [
    "x @ W", "W @ x", "W @ vector", "vector @ W", "W.T @ x", "x @ W.T", "W.T.T", "einsum",
    "batched inputs", "one after the other", "jit", "custom_jvp", "vmap", "cast",
]  # fmt: skip


def moved():
    """A method, and what its directions move."""
    leaves = [jnp.asarray(W), jnp.asarray(V)]
    scales = [jnp.asarray(0.1), jnp.asarray(0.2)]
    return LowRank(KEY, 4, rank=2).directions(leaves), leaves, scales


def program_of(name, leaves):
    """A function as it is evaluated with factors."""
    return trace(lambda leaves: (FUNCTIONS[name](*leaves), None), leaves)


def test_the_same_as_with_arrays():
    """All in one program, so that the directions are compiled once."""

    @jax.jit
    def both(i):
        directions, leaves, scales = moved()
        points = directions.points(leaves, i, scales)
        arrays = directions.add(leaves, i, scales)
        return {
            name: (program_of(name, leaves).call(points)[0], fun(*arrays))
            for name, fun in FUNCTIONS.items()
        }

    for name, (found, exact) in both(np.int32(1)).items():
        assert found.dtype == exact.dtype, name
        tol = 1e-5 if name in ("cast", "preferred") else 1e-12
        atol = tol * np.abs(exact).max()
        np.testing.assert_allclose(found, exact, rtol=tol, atol=atol, err_msg=name)


def test_moves_stay_thin():
    directions, leaves, scales = moved()
    points = directions.points(leaves, np.int32(1), scales)
    assert all(isinstance(p, Factored) for p in points)
    for name in THIN:
        program = program_of(name, leaves)
        made = jax.make_jaxpr(lambda program=program: program.call(points)[0])()
        shapes = [
            v.aval.shape
            for eqn in made.jaxpr.eqns
            if eqn.primitive.name == "add"
            for v in eqn.outvars
        ]
        assert (M, K) not in shapes, name
        assert (K, M) not in shapes, name


def test_gradient():
    """All together, against points made by hand."""
    method = LowRank(KEY, 4, rank=2, sigma=0.1)

    def loss(leaves):
        return jnp.sum(jnp.sin(jax.nn.relu(A @ leaves["w"]) @ leaves["v"]))

    leaves = {"v": jnp.asarray(V), "w": jnp.asarray(W)}
    found = jaxfd.grad(loss, method=method)(leaves)
    u = directions(method, jax.tree.leaves(leaves))

    def at(u):
        v, w = u[: K * M].reshape(K, M), u[K * M :].reshape(M, K)
        return loss({"v": V + 0.1 * v, "w": W + 0.1 * w})

    slopes = np.asarray(jax.jit(jax.vmap(lambda u: (at(u) - at(-u)) / 0.2))(u))
    hand = np.mean(slopes[:, None] * u, axis=0)
    np.testing.assert_allclose(found["v"].reshape(-1), hand[: K * M], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found["w"].reshape(-1), hand[K * M :], rtol=1e-9, atol=1e-10)


def test_shapes_that_are_no_matrices():
    """Vectors, scalars, kernels of convolutions, and matrices no larger than their factors."""
    tree = {
        "bias": jnp.zeros(7),
        "kernel": jnp.asarray(RNG.normal(size=(3, 3, 4, 8))),
        "scale": jnp.asarray(1.0),
        "small": jnp.asarray(RNG.normal(size=(2, 3))),
        "stack": jnp.asarray(RNG.normal(size=(2, 6, 7))),
    }
    image = jnp.asarray(RNG.normal(size=(1, 5, 5, 4)))

    def loss(t):
        seen = jax.lax.conv_general_dilated(
            image, t["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return (
            jnp.sum(jnp.tanh(seen)) * t["scale"]
            + jnp.sum(t["small"] ** 2)
            + jnp.sum(jnp.tanh(t["stack"] @ (t["bias"] + 1.0)))
        )

    method = LowRank(KEY, 3, rank=3, sigma=0.1)
    u = directions(method, jax.tree.leaves(tree))
    flat, unravel = ravel_pytree(tree)
    values = jax.jit(jax.vmap(lambda x: loss(unravel(x))))
    slopes = (values(flat + 0.1 * u) - values(flat - 0.1 * u)) / 0.2
    hand = np.mean(np.asarray(slopes)[:, None] * u, axis=0)
    found = jaxfd.grad(loss, method=method)(tree)
    np.testing.assert_allclose(ravel_pytree(found)[0], hand, rtol=1e-9, atol=1e-9)
    # A matrix smaller than its factors moves along normal numbers: the rank is full.
    small = u[:, -6 - 84 : -84].reshape(3, 2, 3)
    assert all(np.linalg.matrix_rank(m) == 2 for m in small)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float32])
def test_low_precision(dtype):
    x = jnp.asarray(RNG.normal(size=(4, 16)), dtype)
    w = jnp.asarray(RNG.normal(size=(16, 12)) / 4, dtype)

    def loss(w):
        return jnp.sum(jnp.tanh((x @ w).astype(np.float32)))

    method = LowRank(KEY, 64, rank=1, sigma=0.1)
    found = jaxfd.grad(loss, method=method)(w)
    assert found.dtype == dtype
    wide = jaxfd.grad(lambda w: jnp.sum(jnp.tanh(x.astype(np.float32) @ w)), method=method)(
        w.astype(np.float32)
    )
    error = jnp.linalg.norm(found.astype(np.float32) - wide) / jnp.linalg.norm(wide)
    assert error < 100 * float(jnp.finfo(dtype).eps)


def test_as_a_population_under_vmap_and_jit():
    method = LowRank(KEY, 8, sigma=0.1, antithetic=False)
    gradient = jaxfd.grad(lambda w, x: jnp.sum(jnp.tanh(x @ w)), method=method)
    alone = jnp.stack([gradient(W, x) for x in BATCH])
    found = jax.jit(jax.vmap(gradient, (None, 0)))(W, BATCH)
    np.testing.assert_allclose(found, alone, rtol=1e-10, atol=1e-12)
    bounded = jaxfd.grad(lambda w: jnp.sum(A @ w), method=method, bounds=(-99.0, 99.0))(W)
    free = jaxfd.grad(lambda w: jnp.sum(A @ w), method=method)(W)
    np.testing.assert_allclose(bounded, free, rtol=1e-9)
