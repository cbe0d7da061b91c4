"""The process around a host call: Ctrl-C, the end of the program, subnormal numbers, warnings."""

from jaxfd._system import fenv as fenv
from jaxfd._system.aside import aside as aside
from jaxfd._system.frames import ShortTracebacks as ShortTracebacks
from jaxfd._system.hostcalls import host_calls as host_calls
from jaxfd._system.interrupt import ctrl_c as ctrl_c
from jaxfd._system.threads import (
    in_main_thread as in_main_thread,
    interrupt_thread as interrupt_thread,
)
from jaxfd._system.warning import JaxfdWarning as JaxfdWarning
