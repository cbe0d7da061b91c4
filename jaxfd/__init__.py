"""Gradients of functions that cannot be differentiated, by evaluating them."""

import importlib as _importlib
import importlib.metadata as _metadata
import typing as _typing
import warnings as _warnings

# Names are looked up when they are first used: `jaxfd._worker`, which runs in worker processes,
# must come without JAX.
if _typing.TYPE_CHECKING:
    from jaxfd import optim as optim
    from jaxfd._hook.blackbox import blackbox
    from jaxfd._hook.differentiable import differentiable
    from jaxfd._methods import (
        Adaptive,
        Backward,
        Central,
        ComplexStep,
        Forward,
        Method,
        Relative,
    )
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
    from jaxfd._reports import (
        GradCheck,
        Noise,
        Sensitivity,
        StepSweep,
        check_grads,
        estimate_noise,
        step_sweep,
    )
    from jaxfd._reports.sensitivity import sensitivity
    from jaxfd._runs import Journal, Progress, Runs
    from jaxfd._system import JaxfdWarning
    from jaxfd._transforms import (
        Estimate,
        derivative,
        estimate,
        grad,
        hessian,
        hessian_diagonal,
        hvp,
        jacobian,
        jvp,
        value_and_grad,
    )

    __version__: str

__all__ = [
    "SPSA",
    "Adaptive",
    "Backward",
    "Central",
    "ComplexStep",
    "Estimate",
    "Forward",
    "GaussianSmoothing",
    "GradCheck",
    "Guided",
    "JaxfdWarning",
    "Journal",
    "LowRank",
    "Method",
    "Noise",
    "Orthogonal",
    "Progress",
    "RandomCoordinates",
    "Relative",
    "Runs",
    "Sensitivity",
    "Sphere",
    "StepSweep",
    "blackbox",
    "check_grads",
    "derivative",
    "differentiable",
    "estimate",
    "estimate_noise",
    "grad",
    "hessian",
    "hessian_diagonal",
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

_FOLDERS = {
    "_hook": ("blackbox", "differentiable"),
    "_methods": (
        *("Adaptive", "Backward", "Central", "ComplexStep", "Forward", "Method", "Relative"),
    ),
    "_networks": ("layer", "per_sample"),
    "_plot": ("plot",),
    "_random": (
        *("GaussianSmoothing", "Guided", "LowRank", "Orthogonal", "RandomCoordinates", "SPSA"),
        "Sphere",
    ),
    "_reports": (
        *("GradCheck", "Noise", "Sensitivity", "StepSweep"),
        *("check_grads", "estimate_noise", "sensitivity", "step_sweep"),
    ),
    "_runs": ("Journal", "Progress", "Runs"),
    "_system": ("JaxfdWarning",),
    "_transforms": (
        *("Estimate", "derivative", "estimate", "grad", "hessian", "hessian_diagonal", "hvp"),
        *("jacobian", "jvp", "value_and_grad"),
    ),
}
_FOLDER_OF = {name: folder for folder, names in _FOLDERS.items() for name in names}


if not _typing.TYPE_CHECKING:  # to a type checker, a name that is not above is a mistake

    def __getattr__(name: str) -> _typing.Any:
        if name == "optim":  # brings optax
            return _importlib.import_module("jaxfd.optim")
        if name == "__version__":
            value = _metadata.version("jaxfd")
        elif name in _FOLDER_OF:
            folder = _importlib.import_module(f"jaxfd.{_FOLDER_OF[name]}")
            value = getattr(folder, name)
        else:
            raise AttributeError(f"module 'jaxfd' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "optim", "__version__"})


def _version() -> str:
    try:
        return _metadata.version("jax")
    except _metadata.PackageNotFoundError:  # a worker that needs none
        return ""


if _version() == "0.10.2":
    from jaxfd._system import JaxfdWarning as _JaxfdWarning

    _warnings.warn(
        "jax 0.10.2 on CPU computes differences such as sum(f(s) - f(-s)) wrongly under jit "
        "(jax-ml/jax#39103), and with them what jaxfd returns: install another version of jax.",
        _JaxfdWarning,
        stacklevel=2,
    )
