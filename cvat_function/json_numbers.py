"""Numbers out of JSON: what Python takes for one and a picture cannot is refused here."""

from __future__ import annotations

from edgetam_model import InputError

FAR = 2.0**31  # beyond it a coordinate is no pixel of anything


def number(field: str, raw: object) -> float:
    """A finite number of moderate size.

    Raises:
        InputError: text, a boolean, NaN, infinity, or more than 2³¹ either way.
    """
    if not isinstance(raw, int | float) or isinstance(raw, bool):
        raise InputError(field, f"expected a number, got {type(raw).__name__}")
    if not -FAR <= raw <= FAR:  # NaN is in no range either
        raise InputError(field, "expected a finite number that can be a pixel")
    return float(raw)


def numbers(field: str, raw: object) -> tuple[float, ...]:
    """A list of such numbers.

    Raises:
        InputError: not a list, or one entry is no such number.
    """
    if not isinstance(raw, list | tuple):
        raise InputError(field, f"expected a list of numbers, got {type(raw).__name__}")
    return tuple(number(field, entry) for entry in raw)
