import platform
import subprocess
import sys

import pytest

# The fewest pages that the system hands out while a tensor of 64 MB is made and freed, of twenty
# times after a first. A busy machine may take pages back in between; and to align a tensor glibc
# cuts a few bytes off, of which each thread keeps seven for small needs: until those are there, a
# freed tensor may be too short for the next of its size by just these.
COUNT = """
import contextlib, resource
from cfexp.run.configuration import one_line_errors
import torch

def fewest():
    torch.ones(2**24)
    counts = []
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(counts)

print(fewest())
with contextlib.suppress(ValueError):  # there is no config of Hydra's to go on with
    one_line_errors(lambda _: None)(None)
print(fewest())
"""


def pages(**environment: str) -> tuple[int, int]:
    """Of a process that has only imported, and of the same one in a command."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    imported, kept = map(int, done.stdout.split())
    return imported, kept


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_commands_next_tensor_finds_freed_memory_unless_the_environment_says_otherwise() -> None:
    imported, kept = pages()
    # A large page counts as one: a tensor of 64 MB is at least 32.
    assert imported > 20  # a process that only imports is left alone
    assert kept < 20
    assert pages(MALLOC_MMAP_THRESHOLD_="1000000")[1] > 20
