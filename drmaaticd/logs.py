"""How log records look on standard error: as text, as JSON, or as systemd's journal wants them.

Which records there are is every module's own business. Whatever a record holds, it stays one line
and cannot pass for another: control characters are escaped (CWE-117).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TextIO

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

#: syslog's severities (RFC 5424, table 2), with which sd-daemon(3) prefixes a line.
PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)

#: What every record has: the rest was given with ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def escape(text: str) -> str:
    """The text with everything but printable characters and spaces as ``\\n``, ``\\x1b``, ``\\u202e``."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


class TextFormatter(logging.Formatter):
    """``2026-11-24T10:00:00.123Z INFO drmaaticd.daemon: text``; a traceback follows, marked by bars.

    Of a record that belongs to a request, the id stands in brackets at the end.
    """

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(self._lines(record))

    def _lines(self, record: logging.LogRecord) -> Iterator[str]:
        yield f"{_time(record)} {record.levelname} {record.name}: {_message(record)}"
        yield from _traceback(self, record)


class JournalFormatter(logging.Formatter):
    """The same without the time, each line with its priority: the journal adds the rest."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in PRIORITIES if record.levelno >= level)
        lines = (f"{record.name}: {_message(record)}", *_traceback(self, record))
        return "\n".join(f"<{priority}>{line}" for line in lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, ``exception``, extras."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        for key, value in vars(record).items():
            if key not in _STANDARD:
                fields.setdefault(key, value)
        return json.dumps(fields, default=str)


def _message(record: logging.LogRecord) -> str:
    """The message in one line, with the id of the request that it belongs to unless it holds that."""
    text = escape(record.getMessage())
    request_id = getattr(record, "request_id", "-")
    return text if request_id in text or request_id == "-" else f"{text} [{request_id}]"


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> Iterator[str]:
    if record.exc_info:
        # The text of an exception may come from a request: the bar keeps its lines from being read
        # as records of their own.
        for line in formatter.formatException(record.exc_info).splitlines():
            yield f"  | {escape(line)}"


def under_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is the one that systemd connected to its journal (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def formatter(kind: str, *, journal: bool) -> logging.Formatter:
    """The formatter for ``text`` or ``json``."""
    if kind == "json":
        return JsonFormatter()
    return JournalFormatter() if journal else TextFormatter()


def mark_records(mark: logging.Filter) -> None:
    """Have every record that is written pass this filter, which may give it attributes."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(mark)


def setup(
    level: str = "info",
    kind: str = "text",
    *,
    stream: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Send every record of `level` (one of `LEVELS`) and above to the stream (standard error)."""
    stream = sys.stderr if stream is None else stream
    environ = os.environ if environ is None else environ
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(kind, journal=under_journal(stream, environ)))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
