import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kills.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_at_random_moments_ends_in_the_bytes_of_an_undisturbed_one(tmp_path):
    """Six kills; JFEVAL_KILLS=50 for as many as one likes."""
    kills = int(os.environ.get("JFEVAL_KILLS", "6"))
    done = subprocess.run([sys.executable, SCRIPT, tmp_path, str(kills)], capture_output=True, text=True, timeout=60 + 20 * kills)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^{kills} kills .*: all ended alike$", done.stdout, re.MULTILINE)
