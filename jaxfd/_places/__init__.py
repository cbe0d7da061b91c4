"""Places: where the points of one estimate are made and evaluated, inside a kernel or on the host."""
