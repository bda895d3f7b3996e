"""Root's side of these tests is one test for each part; within the daemon's account all of `inside/`."""

from __future__ import annotations

import os

collect_ignore_glob = ["test_*.py"] if os.environ.get("RUNAS_JOBS") else ["inside"]
