"""Amounts of memory and disk in words, and the longest time that is waited for anything."""

from __future__ import annotations

LONGEST_S = 1e8
"""Seconds, three years: gRPC and the system's timers cannot count much further."""
_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))


def in_words(num_bytes: float) -> str:
    """An amount with the unit that fits it and three digits, such as "1.37 GB" or "512 bytes"."""
    for factor, unit in _UNITS:
        if num_bytes >= 0.9995 * factor:
            return f"{_three_digits(num_bytes / factor)} {unit}"
    return f"{num_bytes:.0f} byte{'' if round(num_bytes) == 1 else 's'}"


def both_in_words(one: float, other: float) -> tuple[str, str]:
    """Two amounts that a sentence compares; to the byte where three digits would be the same."""
    words = in_words(one), in_words(other)
    return words if words[0] != words[1] else (f"{one:,.0f} bytes", f"{other:,.0f} bytes")


def _three_digits(number: float) -> str:
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:,.{decimals}f}"
