"""``Content-Disposition`` of answers (RFC 6266), with names by RFC 8187. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote

from drmaaticd.web.jsontext import clean

#: The characters of RFC 8187's ``attr-char`` that `quote` would encode.
_ATTR_CHAR = "!#$&+-.^_`|~"

_UNSAFE = re.compile(r'[^\x20-\x7e]|["\\%]')


def content_disposition(kind: str, name: str) -> str:
    """The header's value: `kind` is ``inline`` or ``attachment``.

    The plain ``filename`` comes first, for clients that know no other, with ``_`` for everything that
    one of them could misread; ``filename*`` is added where that changed the name.
    """
    plain = _UNSAFE.sub("_", name)
    value = f'{kind}; filename="{plain}"'
    if plain != name:
        value += f"; filename*=UTF-8''{quote(clean(name), safe=_ATTR_CHAR)}"
    return value
