"""The one kind of warning that the library gives, so that users can tell it from others'.

It lies beneath all rooms, and comes without JAX: worker processes and the front door need none.
"""


class JaxfdWarning(RuntimeWarning):
    """What jaxfd warns of: points that failed, a journal that is gone, a version that is wrong.

    Example:
        >>> import warnings, jaxfd
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", jaxfd.JaxfdWarning)  # of ours, and of no others
    """
