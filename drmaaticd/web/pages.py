"""Lists come in pages: ``page`` and ``page_size`` in, ``count``, ``next`` and ``previous`` out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from drmaaticd.errors import NotFound
from drmaaticd.web.query import Query


@dataclass(frozen=True, slots=True)
class Page:
    """Which page is asked for, and of what size; both count from 1."""

    number: int
    size: int

    @classmethod
    def of(cls, query: Query, default_size: int, largest: int) -> Page:
        """From the query string; a size over `largest` is cut to it. Raises `InvalidInput`."""
        return cls(query.number("page", 1), min(query.number("page_size", default_size), largest))

    def document(
        self, count: int, results: list[Any], url: str, filters: Mapping[str, str]
    ) -> dict[str, Any]:
        """The answer; `url` and `filters` make the links. A page past the end raises `NotFound`."""
        if self.number > 1 and (self.number - 1) * self.size >= count:
            raise NotFound("There is no such page.")
        more = self.number * self.size < count
        return {
            "count": count,
            "next": self._link(self.number + 1, url, filters) if more else None,
            "previous": self._link(self.number - 1, url, filters) if self.number > 1 else None,
            "results": results,
        }

    def _link(self, number: int, url: str, filters: Mapping[str, str]) -> str:
        return f"{url}?{urlencode({**filters, 'page': number, 'page_size': self.size})}"
