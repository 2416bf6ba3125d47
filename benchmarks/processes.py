import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from django.conf import settings

ROOT = Path(__file__).resolve().parent.parent

CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
SERVERS, CLIENT = (CORES[:1], CORES[1:]) if len(CORES) > 1 else (CORES, CORES)


def stay_on(cores: Sequence[int]) -> None:
    """Keep this thread, and all that it starts from now on, on these cores, where the system can.

    Processes that move from core to core, and wait for each other's locks, spend time that differs from run to run.
    """
    if cores:
        os.sched_setaffinity(0, cores)


def run(
    database_url: str, environment: Mapping[str, str], module: str, *arguments: str, python: str = sys.executable
) -> str:
    """Run a Python module in another process, with that database; return its output."""
    given = {"ENV_FILE": os.devnull, "SECRET_KEY": settings.SECRET_KEY, "DATABASE_URL": database_url, **environment}
    command = [python, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | given, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def started_since(before: set[int]) -> int:
    """Return the new child of this process. Raises ValueError if there are several."""
    (pid,) = children()[os.getpid()] - before
    return pid


def children() -> defaultdict[int, set[int]]:
    """Return the processes of this machine by their parents."""
    found = defaultdict(set)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            found[int(_stat(path)[1])].add(int(path.parent.name))
    return found


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process, and of its children, including those that have ended."""
    found, waiting, total = children(), [pid] if pid else [], 0.0
    while waiting:
        process = waiting.pop()
        waiting += found[process]
        with suppress(OSError):
            # Finer than the ticks of `stat`, which has what the children used that have ended.
            threads = Path(f"/proc/{process}/task").glob("*/schedstat")
            total += sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
            total += sum(map(int, _stat(Path(f"/proc/{process}/stat"))[13:15])) / os.sysconf("SC_CLK_TCK")
    return total


def _stat(path: Path) -> list[str]:
    """Return the fields after the name of the program, which may hold anything: the state, the parent, ..."""
    return path.read_text().rpartition(")")[2].split()
