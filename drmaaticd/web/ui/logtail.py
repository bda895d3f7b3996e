"""The last lines of a log as plain text, for browsers without JavaScript. Pure.

What a terminal would do is done: a carriage return begins the line anew, colours and other escape
sequences (ECMA-48) are taken out. Everything else that does not show is made visible.
"""

from __future__ import annotations

import re

#: Escape sequences: CSI (ECMA-48, section 5.4), OSC and other strings (5.6), and the short ones.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~]?)", re.ASCII
)
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)} | {0x7F: 0x2421}


def last_lines(data: bytes, whole: bool) -> str:
    """The text of a log's last bytes; `whole`: they are the whole log, else the first line is cut off."""
    if not whole:
        head, newline, rest = data.partition(b"\n")
        data = rest if newline else head.lstrip(bytes(range(0x80, 0xC0)))
    return plain(data.decode("utf-8", "replace"))


def plain(text: str) -> str:
    """Log text without escape sequences, each line as it stood last; control characters as pictures."""
    text = _ESCAPES.sub("", text)
    lines = [_overwritten(line) for line in text.split("\n")]
    return "\n".join(lines).translate(_CONTROLS)


def _overwritten(line: str) -> str:
    """What remains of a line whose carriage returns each begin it anew."""
    line = line.rstrip("\r")
    return line.rpartition("\r")[2]
