"Run code in a forked process that is killed before its n-th change of a file: for tests of interrupted writes."

import os
import sys
from collections.abc import Callable

EFFECTS = {"open", "os.rename", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "shutil.copytree", "shutil.rmtree"}


def run_in_fork(work: Callable) -> int:
    "Run a function in a process of its own, and give its exit status: 9 if `die_before_effect` ended it."
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)


def die_before_effect(number: int, path_part: str = "") -> None:
    "End this process before it changes a file for the n-th time, from 0. Only paths that contain `path_part` count."
    remaining = [number]

    def hook(event, args):
        only_reads = event == "open" and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if event in EFFECTS and path_part in str(args[0]) and not only_reads:
            remaining[0] -= 1
            if remaining[0] < 0:
                os._exit(9)

    sys.addaudithook(hook)
