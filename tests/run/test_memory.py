import platform
import subprocess
import sys

import pytest

# The fewest pages that the system hands out while a tensor of 64 MB is made and freed, of five
# times after a first: a busy machine may take pages back in between.
COUNT = """
import contextlib, resource, sys
from cfexp.run.configuration import one_line_errors
if sys.argv[1] == "kept":
    with contextlib.suppress(ValueError):  # there is no config of Hydra's to go on with
        one_line_errors(lambda _: None)(None)
import torch
torch.ones(2**24)
counts = []
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(counts))
"""


def pages(how: str, **environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", COUNT, how], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_commands_next_tensor_finds_freed_memory_unless_the_environment_says_otherwise() -> None:
    # Of some processes the heap cannot grow where Linux has put it; the next one lies elsewhere.
    assert any(pages("kept") < 20 for _ in range(4))
    # A large page counts as one: a tensor of 64 MB is at least 32. A process that only imports is
    # left alone.
    assert pages("not kept") > 20
    assert pages("kept", MALLOC_MMAP_THRESHOLD_="1000000") > 20
