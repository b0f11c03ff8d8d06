"""A walk through every function whose signature has shapes, with jaxtyping and beartype checking them.

Run as a program: it prints, as JSON, which of these functions there are and which were called. Compiled code stays
unchecked, since a function that is wrapped cannot be compiled: everything here runs on the reference engine.
"""

import functools
import json
import sys

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

COMPILED = ("engines.batched", "engines.compiled")
HOOKED = """
arguments layers patterns machine chains rule wake sleep streams protocol pushforward records data.worlds data.images
rules methods measures engines.reference training
""".split()
SHAPED, CALLED = set(), set()


def checked(function):
    """beartype, with a note of the functions that have shapes and of those that were called with the right ones."""
    look, name = beartype(conf=BeartypeConf(is_pep484_tower=True))(function), f"{function.__module__}.{function.__qualname__}"
    if not any("Tensor" in repr(kind) and "jaxtyping" in repr(type(kind)) + repr(kind) for kind in function.__annotations__.values()):
        return look
    SHAPED.add(name)

    @functools.wraps(look)
    def call(*arguments, **options):
        found = look(*arguments, **options)
        CALLED.add(name)
        return found

    return call
