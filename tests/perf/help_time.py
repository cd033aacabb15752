"""Time of `jfeval --help` from a cold interpreter, beside `python -c pass`. Run: python tests/perf/help_time.py"""

import statistics
import subprocess
import sys
import time

ROUNDS = 10


def seconds(*arguments: str) -> list[float]:
    """Time a command, several times."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    for name, arguments in {"python -c pass": ("-c", "pass"), "jfeval --help": ("-m", "jfeval", "--help")}.items():
        times = seconds(*arguments)
        print(f"{name:<16} median {statistics.median(times):.3f} s, best {min(times):.3f} s, worst {max(times):.3f} s of {ROUNDS}")
