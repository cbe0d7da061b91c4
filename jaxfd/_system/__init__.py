"""The process around a host call: Ctrl-C, the end of the program, subnormal numbers."""

from jaxfd._system.interrupt import (
    aside as aside,
    noticed as noticed,
    noticing as noticing,
    own_errors as own_errors,
)
