"""Places: where the points of an estimate are made and evaluated, a kernel or the host."""

from jaxfd._places.host import Host as Host
from jaxfd._places.hostfunction import (
    Declared as Declared,
    HostFunction as HostFunction,
    widen as widen,
)
from jaxfd._places.kernel import Kernel as Kernel
from jaxfd._places.schedule import chunk_bytes as chunk_bytes, evenly as evenly
