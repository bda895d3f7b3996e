"""Points at which a test can have the process die, as a power cut would: between two steps.

Nothing happens unless the environment names the point; nobody but a test does.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "DRMAATICD_FAULT"

#: The DRM has taken a job, and its id is not recorded yet.
SUBMITTED = "submitted"


def reached(point: str) -> None:
    """End the process at once (SIGKILL) if ``$DRMAATICD_FAULT`` names this point."""
    if os.environ.get(VARIABLE) == point:
        os.kill(os.getpid(), signal.SIGKILL)
