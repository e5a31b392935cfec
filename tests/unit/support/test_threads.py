"""A job keeps to its threads, whichever library computes."""

import json
import subprocess
import sys

PROGRAM = """
import json
import numpy
from dtr.support.threads import use_threads
use_threads(1)
import scipy.linalg
import torch
from threadpoolctl import threadpool_info
print(json.dumps([torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())]))
"""


def test_libraries_loaded_before_and_after_keep_to_the_threads():
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert set(json.loads(answer.stdout)) == {1}
