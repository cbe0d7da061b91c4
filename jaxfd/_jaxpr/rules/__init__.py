"""Patch rules, one file for each family of primitives.

All files of this folder are loaded, so that a new family is a new file and nothing else.
"""

import importlib
import pkgutil

from jaxfd._jaxpr.rules.registry import (
    PatchRule as PatchRule,
    by_size as by_size,
    forget_rule as forget_rule,
    rule as rule,
    rule_of as rule_of,
)

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
