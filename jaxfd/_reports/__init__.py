"""Reports: what is asked about gradients, on top of the transforms."""

from jaxfd._reports.check import check_grads as check_grads
from jaxfd._reports.entries import check_real as check_real, flat as flat, numbers as numbers
from jaxfd._reports.noise import (
    Noise as Noise,
    choose as choose,
    difference_table as difference_table,
    estimate_noise as estimate_noise,
)
from jaxfd._reports.probe import (
    check_one_number as check_one_number,
    check_output as check_output,
    eps_of as eps_of,
    leaves_of as leaves_of,
)
from jaxfd._reports.sensitivity import Sensitivity as Sensitivity, sensitivity as sensitivity
from jaxfd._reports.sweep import StepSweep as StepSweep, step_sweep as step_sweep
from jaxfd._reports.verdicts import (
    AGREES as AGREES,
    DIFFERS as DIFFERS,
    UNCLEAR as UNCLEAR,
    UNSEEN as UNSEEN,
    GradCheck as GradCheck,
)
