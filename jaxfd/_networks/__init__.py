"""Networks: marked layers, and gradients made sample by sample."""

from jaxfd._networks.layer import layer as layer
from jaxfd._networks.per_sample import per_sample as per_sample
