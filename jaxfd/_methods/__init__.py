"""Methods say how a derivative is estimated: stencils, step rules, and values made of both."""
