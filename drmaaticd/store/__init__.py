"""What is stored: tasks and small tables beside them, in TinyDB over `journal`.

`Store` is the way to it, `repair` puts right what a store refuses to open.
"""

from drmaaticd.store.core import Store
from drmaaticd.store.listing import ANY, Query
from drmaaticd.store.repair import Report, repair
from drmaaticd.store.side import SideTable

__all__ = ["ANY", "Query", "Report", "SideTable", "Store", "repair"]
