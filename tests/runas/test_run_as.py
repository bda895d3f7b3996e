"""Jobs under a second account: the contract, the API, a job's whole life, attacks, checks.

Each part runs in a pytest of its own under the daemon's account; Slurm's is in `tests/cluster/`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.outside import need_root
from tests.runas.outside import PART_TIMEOUT, run, two_accounts

PARTS = {
    "contract": "tests/contract/test_engine.py",
    "api": "tests/runas/inside/test_api.py",
    "life": "tests/runas/inside/test_life.py",
    "attacks": "tests/runas/inside/test_attacks.py",
    "checks": "tests/runas/inside/test_checks.py",
    "own": "tests/runas/inside/test_own_account.py",
}


@pytest.fixture(scope="module")
def accounts() -> Iterator[str]:
    """The two accounts and the rule between them."""
    need_root("second account")
    with two_accounts("local") as made:
        yield made


@pytest.mark.timeout(PART_TIMEOUT + 500)
@pytest.mark.parametrize("part", PARTS)
def test_with_jobs_apart(accounts: str, part: str) -> None:
    run(accounts, PARTS[part])
