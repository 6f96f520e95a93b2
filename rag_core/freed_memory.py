"""Memory that was freed and that the C library still holds."""

import ctypes


def give_back_freed() -> None:
    """Gives the system what glibc keeps of freed memory; nothing where the C library is another.

    Tensors of ever new sizes leave gaps that later ones do not fill: a training on a CPU that used 0.3 GB between
    steps held 3 GB after 90 steps and 9.5 after 1,100, and at most 3.4 where it is given back every 20.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
