"""The search for step and derivative along every coordinate: a ladder of steps, and fits."""
