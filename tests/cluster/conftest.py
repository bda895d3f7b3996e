"""Which of the cluster tests run here: from root's side one test for each part, within the account all."""

from __future__ import annotations

import os

#: By the cluster that the account is on: what is not for it. Root's side needs none of `inside/`, which
#: needs a cluster's environment.
IGNORED = {
    "": ["inside"],
    "gridengine": ["test_gridengine.py", "test_slurm.py", "inside/test_slurm_*"],
    "slurm": ["test_gridengine.py", "test_slurm.py", "inside/test_faults.py", "inside/test_jobs.py"],
}

collect_ignore_glob = IGNORED[os.environ.get("DRM_CLUSTER", "")]
