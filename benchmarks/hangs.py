"""Does a black box ever hang, or return a wrong number? ``python -m benchmarks.hangs``.

Every run is a child process with a hard time limit, pinned to its cores before anything is
imported. A run fails where a gradient differs from the analytic one, where the host is called
another number of times than it should be, or where anything is raised.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import jaxfd
from benchmarks._children import HEAD, Outcome, run

_PARAMETERS, _STEPS, _RATE = 200, 20, 0.05
_SCALAR = jax.ShapeDtypeStruct((), np.float32)
_MEGABYTE = 2**18  # float32 numbers


# --- what the host computes, and what must come out ------------------------------------


def _weights(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.linspace(0.5, 2.0, n), np.linspace(-1.0, 1.0, n)


def _loss(x: np.ndarray) -> np.ndarray:
    weight, centre = _weights(x.shape[-1])
    return np.sum(weight * (x - centre) ** 2 + np.sin(x), axis=-1)


def _slope(x: np.ndarray) -> np.ndarray:
    weight, centre = _weights(x.shape[-1])
    return 2 * weight * (x - centre) + np.cos(x)


def _scale(data: np.ndarray) -> np.ndarray:
    return 1.0 + data[..., :: _MEGABYTE // 16].sum(axis=-1)


def _loss_of_data(x: np.ndarray, data: np.ndarray) -> np.ndarray:
    return _loss(x) * _scale(data)


def _start(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


def _check(got: Any, want: np.ndarray, tolerance: float = 1e-5) -> None:
    """Raises AssertionError where a gradient is not the analytic one in float32."""
    np.testing.assert_allclose(np.asarray(got), want, rtol=tolerance, atol=tolerance)


class _Count:
    """A host function that counts its calls."""

    def __init__(self, fun: Callable[..., np.ndarray]) -> None:
        self.fun = fun
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, *args: np.ndarray) -> np.ndarray:
        with self._lock:
            self.calls += 1
        return self.fun(*args)

    def expect(self, calls: int) -> None:
        if self.calls != calls:
            raise AssertionError(f"{self.calls} host calls, expected {calls}")


# --- the loop ---------------------------------------------------------------------------


def _pending(size: int = 384, products: int = 60) -> jax.Array:
    """Dispatches a chain of matrix products, a fraction of a second long, and does not wait."""
    return _chain(jnp.full((size, size), 1.0 / size, jnp.float32), products)


@functools.partial(jax.jit, static_argnums=1)
def _chain(matrix: jax.Array, products: int) -> jax.Array:
    result = matrix
    for _ in range(products):
        result = result @ matrix
    return result


def _behind(fun: Callable[..., Any], *args: Any) -> Any:
    """Runs a compiled function once, behind pending work."""
    compiled = jax.jit(fun).lower(*args).compile()
    waiting = _pending()
    result = compiled(*args)
    return jax.block_until_ready((waiting, result))[1]


_Objective = Callable[[jax.Array], jax.Array]


def _step(objective: _Objective) -> Callable[..., tuple[jax.Array, Any, jax.Array]]:
    optimizer = optax.adam(_RATE)

    def step(x: jax.Array, state: Any) -> tuple[jax.Array, Any, jax.Array]:
        _, gradient = jax.value_and_grad(objective)(x)
        updates, state = optimizer.update(gradient, state, x)
        return optax.apply_updates(x, updates), state, gradient

    return step


def _fit(
    objective: _Objective,
    slope: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray | jax.Array,
    tolerance: float = 1e-5,
) -> None:
    """Twenty steps of Adam, dispatched without waiting behind pending work, then checked."""
    step = jax.jit(_step(objective))
    at = jnp.asarray(x)
    state = optax.adam(_RATE).init(at)
    seen, waiting = [], []
    for i in range(_STEPS):
        if i % 5 == 0:  # the first of these ends while the step is being compiled
            waiting.append(_pending())
        before = at
        at, state, gradient = step(at, state)
        seen.append((before, gradient))
    for before, gradient in seen:
        _check(gradient, slope(np.asarray(before, np.float64)), tolerance)
    jax.block_until_ready(waiting)


def _box(fun: Callable[..., np.ndarray], vectorized: bool) -> Callable[..., jax.Array]:
    return jaxfd.blackbox(fun, _SCALAR, vectorized=vectorized)


# --- scenarios --------------------------------------------------------------------------


def _one(vectorized: bool) -> None:
    _fit(_box(_loss, vectorized), _slope, _start(_PARAMETERS))


def _threads() -> None:
    """Two threads, each on a box of its own and then both on one that they share."""
    shared = _box(_loss, True)
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            _fit(_box(_loss, bool(seed)), _slope, _start(_PARAMETERS, seed))
            _fit(shared, _slope, _start(_PARAMETERS, seed))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _large() -> None:
    """Arguments of 1 MB: data, a batch of parameters, and parameters along a tangent."""
    data = jnp.asarray(_start(_MEGABYTE, 7))
    scale = float(_scale(np.asarray(data, np.float64)))
    for vectorized, n in ((False, _PARAMETERS), (True, 8)):
        box = _box(_loss_of_data, vectorized)
        _fit(lambda x: box(x, data), lambda x: _slope(x) * scale, _start(n))  # noqa: B023

    box = _box(_loss, True)
    many = _start(_MEGABYTE).reshape(-1, 16)
    gradients = _behind(jax.vmap(jax.grad(box)), many)
    _check(gradients, _slope(many.astype(np.float64)))

    x, tangent = jnp.asarray(_start(_MEGABYTE)), jnp.asarray(_start(_MEGABYTE, 1))
    _, along = _behind(lambda x, v: jaxfd.jvp(box, (x,), (v,)), x, tangent)
    want = np.vdot(_slope(np.asarray(x, np.float64)), np.asarray(tangent, np.float64))
    _check(along, want)


def _mesh() -> Mesh:
    return jax.make_mesh((2,), ("i",), axis_types=(AxisType.Auto,))


def _shard_map(check_vma: bool) -> None:
    """Each device fits its own half, with its own host calls."""
    count = _Count(_loss)
    box = _box(count, True)

    def loss(x: jax.Array) -> jax.Array:
        return box(x[0])[None]

    mesh, rows = _mesh(), PartitionSpec("i")
    mapped = jax.shard_map(loss, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=check_vma)
    x = jax.device_put(_start(_PARAMETERS).reshape(2, -1), NamedSharding(mesh, rows))
    _fit(lambda x: jnp.sum(mapped(x)), _slope, x)
    inside = jax.shard_map(
        lambda x: jax.grad(box)(x[0])[None],
        mesh=mesh,
        in_specs=rows,
        out_specs=rows,
        check_vma=check_vma,
    )
    _check(_behind(inside, x), _slope(np.asarray(x, np.float64)))
    count.expect(2 * (_STEPS + 1))


def _global() -> None:
    """One program over sharded parameters: one host call a step, not one per device."""
    count = _Count(_loss)
    mesh = _mesh()
    x = jax.device_put(_start(_PARAMETERS), NamedSharding(mesh, PartitionSpec("i")))
    _fit(_box(count, True), _slope, x)
    count.expect(_STEPS)


def _scan() -> None:
    """Adam inside ``scan``, alone, under ``vmap``, and with ``vmap`` inside."""
    count = _Count(_loss)
    box = _box(count, True)
    starts = np.stack([_start(_PARAMETERS, seed) for seed in range(4)])
    optimizer = optax.adam(_RATE)

    def descend(objective: _Objective) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
        step = _step(objective)

        def body(carry: Any, _: Any) -> tuple[Any, Any]:
            x, state = carry
            after, state, gradient = step(x, state)
            return (after, state), (x, gradient)

        return lambda x: jax.lax.scan(body, (x, optimizer.init(x)), length=_STEPS)[1]

    fits: tuple[tuple[Callable[..., Any], np.ndarray], ...] = (
        (descend(box), starts[0]),
        (jax.vmap(descend(box)), starts),
        (descend(lambda x: jnp.sum(jax.vmap(box)(x))), starts),
    )
    for fit, start in fits:
        points, gradients = _behind(fit, start)
        _check(gradients, _slope(np.asarray(points, np.float64)))
    count.expect(3 * _STEPS)


def _plain() -> None:
    """The first scenario by ``jax.pure_callback``, whose points are made in the kernel."""

    def host(points: jax.Array) -> np.ndarray:
        return _loss(np.asarray(points, np.float64)).astype(np.float32)

    def points_of(x: jax.Array) -> jax.Array:
        move = jnp.concatenate([jnp.zeros((1, x.size)), jnp.eye(x.size), -jnp.eye(x.size)])
        return x + 1e-2 * move

    @jax.custom_jvp
    def objective(x: jax.Array) -> jax.Array:
        return jax.pure_callback(host, _SCALAR, x)

    @objective.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        shape = jax.ShapeDtypeStruct((2 * _PARAMETERS + 1,), np.float32)
        values = jax.pure_callback(host, shape, points_of(primals[0]))
        up, down = values[1 : _PARAMETERS + 1], values[_PARAMETERS + 1 :]
        return values[0], jnp.vdot((up - down) / 2e-2, tangents[0])

    _fit(objective, _slope, _start(_PARAMETERS), tolerance=0.1)


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What a child process does.

    Attributes:
        title: what the table calls it.
        run: the work; raises where something is wrong.
        cores: how many cores the child is pinned to.
        devices: how many CPU devices JAX is made to show.
    """

    title: str
    run: Callable[[], None]
    cores: int = 1
    devices: int = 1


_LOOP = f"optax loop, {_PARAMETERS} parameters"
SCENARIOS = {
    "vectorized": Scenario(f"{_LOOP}, vectorized, 1 core", functools.partial(_one, True)),
    "pointwise": Scenario(f"{_LOOP}, point by point, 1 core", functools.partial(_one, False)),
    "threads": Scenario(f"{_LOOP}, two threads, 2 cores", _threads, 2),
    "large": Scenario("arguments of 1 MB, 1 core", _large),
    "shard_map": Scenario(
        "under shard_map, 2 devices", functools.partial(_shard_map, True), 2, devices=2
    ),
    "shard_map_unchecked": Scenario(
        "under shard_map(check_vma=False), 2 devices",
        functools.partial(_shard_map, False),
        2,
        devices=2,
    ),
    "global": Scenario("sharded input under jit, 2 devices", _global, 2, devices=2),
    "global_one_core": Scenario("sharded input under jit, 2 devices, 1 core", _global, 1, 2),
    "scan": Scenario("inside scan and vmap, 1 core", _scan),
    "plain": Scenario(f"jax.pure_callback: {_LOOP}, 1 core (for scale)", _plain),
}


# --- the parent -------------------------------------------------------------------------


def measure(name: str, runs: int, limit: float = 60.0) -> Outcome:
    """Runs one scenario in child processes; see `_children.run`."""
    scenario = SCENARIOS[name]
    return run(__spec__.name, name, runs, limit, scenario.cores, scenario.devices)


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the table.

    Returns:
        How many runs of jaxfd hung or failed.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hangs", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="runs of each scenario")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds a run may take")
    parser.add_argument(
        "--plain", action="store_true", help="also jax.pure_callback: 2 runs of 15 s at most"
    )
    parser.add_argument(
        "--only", nargs="+", choices=[*SCENARIOS], default=None, help="these scenarios"
    )
    options = parser.parse_args(arguments)
    names = options.only or [name for name in SCENARIOS if name != "plain" or options.plain]
    print(f"jax {jax.__version__}, CPU; goal: 0 hangs, 0 failures")
    print(HEAD)
    bad = 0
    for name in names:
        plain = name == "plain"
        runs, limit = (min(options.runs, 2), 15.0) if plain else (options.runs, options.limit)
        outcome = measure(name, runs, limit)
        bad += 0 if plain else outcome.bad
        print(outcome.row(SCENARIOS[name].title), flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
