"""What tests of gradient checks share: a smooth function, its slope, and how a report is read."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd

X = np.array([0.3, 1.7, -2.2])
# The default takes seconds to compile for every traceable function: what is not about it is done
# with this method, or with black boxes.
QUICK = jaxfd.Central(order=4)


def box(fun, dtype=np.float64):
    """A black box of one array, evaluated in the given dtype."""

    def host(x):
        return np.asarray(fun(jax.tree.map(lambda leaf: leaf.astype(dtype), x))).astype(dtype)

    return jaxfd.blackbox(host, jax.ShapeDtypeStruct((), dtype))


def smooth(x):
    return jnp.sum(jnp.sin(x) * jnp.exp(x / 4))


def host_smooth(x):
    return np.sum(np.sin(x) * np.exp(x / 4))


# Made once, as each takes time to set up.
SMOOTH = box(host_smooth)


def slope(x):
    return np.exp(x / 4) * (np.cos(x) + np.sin(x) / 4)


def check(fun, x, grad=None, **options):
    report = jaxfd.check_grads(fun, x, grad, **options)
    assert report.ok == (report.verdict == "agrees")
    return report


def entries(report):
    """The verdicts of all entries, in the order of the leaves."""
    return [v for leaf in jax.tree.leaves(report.verdicts) for v in np.ravel(leaf)]
