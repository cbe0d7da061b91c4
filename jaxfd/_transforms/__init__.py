"""The transforms: thin doors onto the pipeline, with the signatures of JAX's own.

Each door checks what does not depend on the call, names a `Task`, and unpacks the
result. None of them owns a loop.
"""

from jaxfd._transforms.along import derivative as derivative, jvp as jvp, samples as samples
from jaxfd._transforms.first import (
    counted as counted,
    estimate as estimate,
    grad as grad,
    jacobian as jacobian,
    value_and_grad as value_and_grad,
)
from jaxfd._transforms.options import (
    Argnums as Argnums,
    check as check,
    check_method as check_method,
    check_pair as check_pair,
    schedule_of as schedule_of,
    static as static,
)
from jaxfd._transforms.result import Estimate as Estimate
from jaxfd._transforms.second import (
    hessian as hessian,
    hessian_diagonal as hessian_diagonal,
    hvp as hvp,
)
