"""A calculator of gradients by differences, seen in a browser: ``python -m jaxfd.calculator``.

It stands on jaxfd's public face, as any program of a user would: nothing in the library knows of
it, and it knows no other room. Extra: ``pip install 'jaxfd[calculator]'``.
"""
