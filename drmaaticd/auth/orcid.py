"""ORCID iDs: the check of their last character. Pure."""

from __future__ import annotations

import re

_FORM = re.compile(r"[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X]")


def is_orcid(text: str) -> bool:
    """Whether this is an ORCID iD: 16 characters in fours, the last by ISO 7064, MOD 11-2.

    Source: ORCID, "Structure of the ORCID Identifier".
    """
    if not _FORM.fullmatch(text):
        return False
    digits = text.replace("-", "")
    total = 0
    for digit in digits[:-1]:
        total = (total + int(digit)) * 2
    check = (12 - total % 11) % 11
    return digits[-1] == ("X" if check == 10 else str(check))
