"""Reports: what is asked about gradients, on top of the transforms."""
