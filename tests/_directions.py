"""What tests of random methods share: the families, and estimates written out by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd

KEY = jax.random.PRNGKey(7)
# Those whose directions are drawn independently of each other.
INDEPENDENT = [jaxfd.SPSA, jaxfd.GaussianSmoothing, jaxfd.Sphere, jaxfd.LowRank]
FAMILIES = [*INDEPENDENT, jaxfd.Orthogonal, jaxfd.RandomCoordinates]
ALL = [*FAMILIES, jaxfd.Guided]


def label(value):
    return getattr(value, "__name__", None)


def make(family, num_samples, x=None, key=KEY, sigma=0.1, **options):
    """A method; Guided along two vectors that are no special ones of ``x``."""
    if family is jaxfd.Guided:
        past = jax.tree.map(
            lambda leaf: jnp.stack([jnp.cos(leaf), jnp.ones_like(leaf)]).astype(leaf.dtype), x
        )
        return family(key, num_samples, past, sigma=sigma, **options)
    return family(key, num_samples, sigma=sigma, **options)


def directions(method, leaves):
    """All directions, flattened: shape ``(N, n)``."""
    drawn = jax.jit(
        lambda key: (
            dataclasses.replace(method, key=key)
            .directions(leaves)
            .several(np.arange(method.num_samples, dtype=np.int32))
        )
    )(method.key)
    flat = [np.asarray(u, np.float64).reshape(method.num_samples, -1) for u in drawn]
    return np.concatenate(flat, axis=1)


def by_hand(fun, x, u, sigma, antithetic=True, factors=None):
    """The mean over directions, for a function of rows of a NumPy array."""
    x = np.asarray(x, np.float64)
    if antithetic:
        slopes = (fun(x + sigma * u) - fun(x - sigma * u)) / (2 * sigma)
    else:
        slopes = (fun(x + sigma * u) - fun(x)) / sigma
    factors = np.full(len(u), 1 / len(u)) if factors is None else factors
    return (factors * slopes) @ u


def factors(method, size):
    """What each sample counts where none is lost."""
    count = method.num_samples
    if isinstance(method, jaxfd.RandomCoordinates):
        return np.full(count, size / count)
    if isinstance(method, jaxfd.Guided):
        fixed = method.subspace.shape[0]
        return np.r_[np.full(fixed, 1 / size), np.full(count - fixed, 1 / (count - fixed))]
    return np.full(count, 1 / count)


def off(samples, truth):
    """How far a mean over keys is from the truth, in standard errors, at worst."""
    samples = np.asarray(samples, np.float64)
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    return float(np.max(np.abs(samples.mean(axis=0) - np.asarray(truth)) / error))
