"""Runs: how the points of a host function are run, and what becomes of their results."""

from jaxfd._runs.evaluation import Evaluation as Evaluation
from jaxfd._runs.fingerprint import fingerprint as fingerprint
from jaxfd._runs.journal import (
    ChangedError as ChangedError,
    Journal as Journal,
    Runs as Runs,
)
from jaxfd._runs.points import Points as Points
from jaxfd._runs.progress import (
    Progress as Progress,
    Tally as Tally,
    check_progress as check_progress,
)
from jaxfd._runs.runner import Runner as Runner
