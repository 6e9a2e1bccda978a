"""One look at each step: what the machine with cgroup v2, where time is dear, runs of all of them."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.cgroup import EVERY_LIMIT, held
from tests.support.runtime import Runtime

pytestmark = [pytest.mark.every_step, pytest.mark.v2, pytest.mark.ours_alone("Podman has its own tests")]


def test_smoke(runtime: Runtime) -> None:
    """In the default image, where there are images, and with every limit, where there are limits.

    `/` is a shared mount in that machine, as systemd makes it: careless pivoting would reach the host.
    """
    runtime = replace(runtime, image=runtime.image and "busybox")
    limits = EVERY_LIMIT if runtime.step >= 2 and not runtime.rootless else []
    result = runtime.run("sh", "-c", "echo $$ $(hostname); exit 7", options=[*limits, "--hostname", "box"])
    assert (result.code, result.text) == (7, "1 box")
    with held(runtime, *limits) as container:
        assert os.path.samestat(os.stat(f"/proc/{container.init.pid}/root"), os.stat("/")) == (runtime.step < 3)
        if limits:
            assert container.read("memory.limit_in_bytes", "memory.max") == f"{64 << 20}"
            assert container.read("pids.max", "pids.max") == "50"
    assert Path(f"/proc/{os.getpid()}").exists()
