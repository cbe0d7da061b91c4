"""Networks: marked layers, and gradients made sample by sample.

Stands on the public transforms alone; must not know places, points or stencils.
"""

from jaxfd._networks.layer import layer as layer
from jaxfd._networks.per_sample import per_sample as per_sample
