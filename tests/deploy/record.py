"Write deploy/checked.json and the table of deploy/README.md: `make test-deploy` calls it after its tests have passed."

import json
import re
import subprocess

from planting import ROOT, planted_mistakes

from brewcast.targets.checked import record_checks


def tool_versions() -> dict[str, str]:
    "The version of each tool: those of the locks, and of the programs of this machine."
    versions = {}
    for declared in sorted((ROOT / "deploy/checks").glob("*.in")):
        names = re.findall(r"(?m)^([a-z0-9-]+)[=>]=", declared.read_text())
        lock = declared.with_suffix(".lock").read_text()
        versions |= {name: re.search(rf"(?m)^{name}==(\S+)", lock)[1] for name in names}
    versions |= json.loads((ROOT / "deploy/checks/package.json").read_text())["dependencies"]
    for program in ("promtool", "buildah", "podman"):
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        versions[program] = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)[0]
    return dict(sorted(versions.items()))


if __name__ == "__main__":
    found = json.loads((ROOT / "scratch/deploy/caught.json").read_text())
    costs = {name: mistake["costs"] for name, mistake in planted_mistakes().items()}
    record = record_checks(ROOT, found["caught"], costs, tool_versions(), found["kubernetes"])
    print(f"{record.planted - len(record.missed)} of {record.planted} planted mistakes are caught: deploy/checked.json")
