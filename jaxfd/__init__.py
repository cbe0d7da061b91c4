"""Gradients of functions that cannot be differentiated, by evaluating them."""

import importlib as _importlib
import importlib.metadata as _metadata
import typing as _typing
import warnings as _warnings

# Names are looked up when they are first used: `jaxfd._worker`, which runs in worker processes,
# must come without JAX.
if _typing.TYPE_CHECKING:
    from jaxfd._hook.blackbox import blackbox
    from jaxfd._hook.differentiable import differentiable
    from jaxfd._methods.finite import Adaptive, Backward, Central, ComplexStep, Forward
    from jaxfd._methods.step import Relative
    from jaxfd._networks.layer import layer
    from jaxfd._networks.per_sample import per_sample
    from jaxfd._plot import plot
    from jaxfd._random import (
        SPSA,
        GaussianSmoothing,
        Guided,
        LowRank,
        Orthogonal,
        RandomCoordinates,
        Sphere,
    )
    from jaxfd._reports.check import check_grads
    from jaxfd._reports.noise import estimate_noise
    from jaxfd._reports.sensitivity import sensitivity
    from jaxfd._reports.sweep import step_sweep
    from jaxfd._runs import Journal
    from jaxfd._transforms import (
        derivative,
        estimate,
        grad,
        hessian,
        hvp,
        jacobian,
        jvp,
        value_and_grad,
    )
    from jaxfd._transforms.result import Estimate

__all__ = [
    "SPSA",
    "Adaptive",
    "Backward",
    "Central",
    "ComplexStep",
    "Estimate",
    "Forward",
    "GaussianSmoothing",
    "Guided",
    "Journal",
    "LowRank",
    "Orthogonal",
    "RandomCoordinates",
    "Relative",
    "Sphere",
    "blackbox",
    "check_grads",
    "derivative",
    "differentiable",
    "estimate",
    "estimate_noise",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "layer",
    "per_sample",
    "plot",
    "sensitivity",
    "step_sweep",
    "value_and_grad",
]

_ROOMS = {
    "_hook.blackbox": ("blackbox",),
    "_reports.check": ("check_grads",),
    "_hook.differentiable": ("differentiable",),
    "_networks.layer": ("layer",),
    "_methods.finite": ("Adaptive", "Backward", "Central", "ComplexStep", "Forward"),
    "_reports.noise": ("estimate_noise",),
    "_networks.per_sample": ("per_sample",),
    "_plot": ("plot",),
    "_random": (
        *("GaussianSmoothing", "Guided", "LowRank", "Orthogonal", "RandomCoordinates", "SPSA"),
        "Sphere",
    ),
    "_transforms.result": ("Estimate",),
    "_runs": ("Journal",),
    "_reports.sensitivity": ("sensitivity",),
    "_methods.step": ("Relative",),
    "_reports.sweep": ("step_sweep",),
    "_transforms": (
        *("derivative", "estimate", "grad", "hessian", "hvp", "jacobian", "jvp"),
        "value_and_grad",
    ),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> _typing.Any:
    if name == "optim":  # brings optax
        return _importlib.import_module("jaxfd.optim")
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'jaxfd' has no attribute {name!r}")
    value = getattr(_importlib.import_module(f"jaxfd.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    try:
        return _metadata.version("jax")
    except _metadata.PackageNotFoundError:  # a worker that needs none
        return ""


if _version() == "0.10.2":
    _warnings.warn(
        "jax 0.10.2 on CPU computes differences such as sum(f(s) - f(-s)) wrongly under jit "
        "(jax-ml/jax#39103), and with them what jaxfd returns: install another version of jax.",
        RuntimeWarning,
        stacklevel=2,
    )
