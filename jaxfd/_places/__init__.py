"""Places: where the points of an estimate are made and evaluated, a kernel or the host."""

from jaxfd._places.host import Host as Host
from jaxfd._places.hostfunction import (
    Declaration as Declaration,
    HostFunction as HostFunction,
    widen as widen,
)
from jaxfd._places.kernel import Kernel as Kernel
from jaxfd._places.place import Place as Place, Reduce as Reduce
from jaxfd._places.schedule import (
    Schedule as Schedule,
    batch_size as batch_size,
    members as members,
)
