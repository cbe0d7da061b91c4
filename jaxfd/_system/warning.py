"""The one kind of warning that the library gives, so that users can tell it from others'.

It must not know what is warned of.
"""


class JaxfdWarning(RuntimeWarning):
    """What jaxfd warns of: points that failed, a journal that is gone, a version that is wrong.

    Example:
        >>> import warnings, jaxfd
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", jaxfd.JaxfdWarning)  # of ours, and of no others
    """
