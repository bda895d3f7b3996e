"""Without a second account: what an ordinary daemon keeps from jobs that run as itself (PR_SET_DUMPABLE)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import requests

from tests.e2e.daemon import daemon, wait_until
from tests.e2e.test_robustness import test_the_daemons_memory_is_closed_to_its_jobs  # noqa: F401

ATTACK = f"""#!{sys.executable}
import ctypes, json, os, pathlib, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)

def trace():
    if libc.ptrace(16, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")

attempts = {{
    "environ": lambda: pathlib.Path(f"/proc/{{pid}}/environ").read_bytes(),
    "mem": lambda: open(f"/proc/{{pid}}/mem", "rb"),
    "maps": lambda: open(f"/proc/{{pid}}/maps", "rb").read(),
    "fd": lambda: os.listdir(f"/proc/{{pid}}/fd"),
    "ptrace": trace,
}}
got = {{}}
for name, attempt in attempts.items():
    try:
        got[name] = repr(attempt())
    except PermissionError:
        got[name] = ""
print(json.dumps(got))
"""


def test_a_job_cannot_read_its_daemon(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False, environ={"SECRET": "of the daemon"}) as service:
        parameter = '[[param]]\nname = "pid"\ntype = "int"\n'
        service.script("attack", f"inline = {json.dumps(ATTACK)}\n{parameter}")
        service.start()
        fields = {"task_name": "attack", "pid": str(service.pid)}
        uuid = requests.post(f"{service.url}/task/", data=fields, timeout=30).json()["uuid"]
        url = f"{service.url}/task/{uuid}"
        wait_until(lambda: requests.get(url, timeout=30).json()["state"] in ("done", "failed"), "its end")
        name = requests.get(url, timeout=30).json()["stdout"]
        got = requests.get(f"{url}/file/{name}", timeout=30).json()
        assert got == dict.fromkeys(("environ", "mem", "maps", "fd", "ptrace"), "")
