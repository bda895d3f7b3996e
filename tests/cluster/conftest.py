"""Which of the cluster tests run here: from root's side one test for each part, within the account all."""

from __future__ import annotations

import os

#: The parts in `inside/` need the cluster's environment, and run where it is set.
collect_ignore_glob = (
    ["test_gridengine.py", "test_slurm.py"] if os.environ.get("DRM_CLUSTER") else ["inside"]
)
