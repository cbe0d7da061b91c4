"""Points, described by small integers: where a function is evaluated, not by whom."""
