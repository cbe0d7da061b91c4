"""The transforms: thin doors onto the pipeline, with the signatures of JAX's own.

Each door checks what does not depend on the call, names a `Task`, and unpacks the
result. None of them owns a loop.
"""

from jaxfd._transforms.along import derivative as derivative
from jaxfd._transforms.along import jvp as jvp
from jaxfd._transforms.along import samples as samples
from jaxfd._transforms.first import estimate as estimate
from jaxfd._transforms.first import grad as grad
from jaxfd._transforms.first import jacobian as jacobian
from jaxfd._transforms.first import value_and_grad as value_and_grad
from jaxfd._transforms.options import check_method as check_method
from jaxfd._transforms.second import hessian as hessian
from jaxfd._transforms.second import hvp as hvp
