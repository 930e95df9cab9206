"""A process that trains gets its freed memory again."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

FAULTS = """
import json, resource, torch
from fenghuo.training.process import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(12 << 20)  # 48 MiB: above what glibc keeps of itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
given_back = faults()
heard = keep_freed_memory()
for _ in range(4):  # the heap grows a few times before it has room for what comes and goes
    faults()
print(json.dumps([heard, given_back, faults()]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_what_is_freed_is_not_fetched_again() -> None:
    told = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    heard, given_back, kept = json.loads(told)
    if not heard:
        pytest.skip("this C library has no mallopt")
    assert given_back > 10 * max(kept, 100)
