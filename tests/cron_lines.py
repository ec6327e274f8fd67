"Run a line of a crontab as cron does it."

import os
import pwd
import re
import subprocess
from pathlib import Path


def run_as_cron(line: str, home: Path) -> subprocess.CompletedProcess:
    "Run the command of a crontab line with what cron gives: a shell, four variables, and no backslash before a percent sign."
    command = line.split(" ", 5)[5]
    assert not re.search(r"(?<!\\)%", command)  # one without a backslash would end the command
    user = pwd.getpwuid(os.getuid()).pw_name
    bare = {"HOME": str(home), "LOGNAME": user, "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    words = ["/bin/sh", "-c", command.replace("\\%", "%")]
    return subprocess.run(words, cwd=home, env=bare, capture_output=True, text=True)
