"Work in a forked process that dies before its n-th effect on files: for the tests of what may be killed anywhere."

import os
import sys
from collections.abc import Callable

EFFECTS = {"open", "os.rename", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "shutil.copytree", "shutil.rmtree"}


def run_in_fork(work: Callable) -> int:
    "Do it in a process of its own, and give its exit status: 9 where it was made to die."
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)


def die_before_effect(at: int, place: str = "") -> None:
    "End this process before its at-th effect, from 0, on a path that holds `place`."
    left = [at]

    def hook(event, args):
        reads = event == "open" and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if event in EFFECTS and place in str(args[0]) and not reads:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)

    sys.addaudithook(hook)
