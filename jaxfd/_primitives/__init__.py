"""Operations of our own that JAX can trace, batch and compile."""

from jaxfd._primitives import lowering as lowering  # tells JAX how `host_call` is compiled
from jaxfd._primitives.callback import host_call as host_call, host_call_p as host_call_p
from jaxfd._primitives.double import double_call as double_call
from jaxfd._primitives.linear import LinearMap as LinearMap, apply_linear as apply_linear
from jaxfd._primitives.pieces import in_pieces as in_pieces
from jaxfd._primitives.sharding import (
    gathered as gathered,
    laid_as as laid_as,
    of_members as of_members,
    spread as spread,
    summed as summed,
    vary as vary,
    varying as varying,
    varying_of as varying_of,
)
from jaxfd._primitives.threefry import threefry as threefry
