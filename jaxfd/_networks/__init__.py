"""Networks: marked layers, and gradients made sample by sample.

Stands on the transforms; must not know points, stencils, or how a function is evaluated.
"""

from jaxfd._networks.layer import layer as layer
from jaxfd._networks.per_sample import per_sample as per_sample
