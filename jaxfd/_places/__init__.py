"""Places: where points are made and evaluated, a kernel, the host, or a kernel for the host."""

from jaxfd._places.batches import Batches as Batches
from jaxfd._places.device import Device as Device
from jaxfd._places.host import Host as Host
from jaxfd._places.hostfunction import (
    Declaration as Declaration,
    HostFunction as HostFunction,
    widen as widen,
)
from jaxfd._places.kernel import Kernel as Kernel, calls_host as calls_host
from jaxfd._places.place import Place as Place, Reduce as Reduce
from jaxfd._places.relay import Crossings as Crossings, Relay as Relay
from jaxfd._places.schedule import (
    Schedule as Schedule,
    batch_size as batch_size,
    members as members,
)
