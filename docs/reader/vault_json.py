"""JSON as vaults have it (docs/format.md), and what kind of value each member is.

A kind is a function: it gives back the value, or raises what `reading` makes damage of. `members` gives back only what
it was told of, so nothing that was not looked at goes any further.
"""

import json
import re

from vault_objects import VERSION, Refused, check, reading, unhex


def parse(name, data, newest=VERSION):
    """An object of a version that is known here, up to `newest`.

    Only what is proven, by a hash or a signature, goes in here: a flipped bit in a version is damage, no newer vault.
    """
    found = parse_unproven(name, data)
    if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > newest:
        raise Refused(f"{name}: it has format {found['format']}, a newer reader is needed")
    return found


def parse_unproven(name, data):
    """JSON of any version, without members that are there twice and without fractions."""

    def unique(pairs):
        found = dict(pairs)
        check(len(found) == len(pairs), name, "a member is there twice")
        return found

    def no_number(text):
        raise ValueError(f"{text} is no whole number")

    with reading(name):
        return json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_float=no_number,
                          parse_constant=no_number)


def whole(value, limit=2**64):
    """A number, from 0 and below `limit`. `true` is none, though Python thinks so."""
    if type(value) is not int or not 0 <= value < limit:
        raise ValueError(f"{value!r} is no number below {limit}")
    return value


def text(value):
    """Text that can be written as UTF-8: half of a surrogate pair is none."""
    value.encode("utf-8")
    return value


def flag(value):
    if type(value) is not bool:
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def digest(value):
    """32 bytes in digits."""
    return unhex(value, 32).hex()


def key_id(value):
    """16 bytes in digits: the identity of a key, a pool or a vault."""
    return unhex(value, 16).hex()


def object_name(value):
    """What an object can be called."""
    segment = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
    if len(value) > 512 or not re.fullmatch(f"{segment}(/{segment})*", value):
        raise ValueError(f"{value!r} can be no object's name")
    return value


def lock_mode(value):
    if value not in ("governance", "compliance"):
        raise ValueError(f"{value!r} is no lock mode")
    return value


def optional(kind):
    """`null`, or a member that is missing, is none."""
    return lambda value: None if value is None else kind(value)


def array(kind):
    def of(value):
        if type(value) is not list:
            raise ValueError(f"{value!r} is no array")
        return [kind(each) for each in value]
    return of


def members(**kinds):
    return lambda value: {name: kind(value.get(name)) for name, kind in kinds.items()}
