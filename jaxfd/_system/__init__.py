"""The process around a host call: Ctrl-C, the end of the program, subnormal numbers."""
