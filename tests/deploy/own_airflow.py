"An Airflow of its own for a project, from .venv-airflow: its folder, its SQLite database, its DAG file."

import json
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from brewcast.common.paths import write_text
from brewcast.targets.airflow import airflow_dag

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv-airflow/bin"
QUIET = {  # no examples, no statistics, no look for updates
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "SCARF_ANALYTICS": "false",
    "DO_NOT_TRACK": "1",
}


class Airflow:
    "An Airflow of its own for a project: its folder, its database, and the DAG file in its DAGs folder."

    def __init__(self, home: Path, project: Path, source: str, environment: dict[str, str]):
        self.home, self.project, self.name = home, project, f"brewcast_{source}"
        write_text(home / "dags/brewcast.py", airflow_dag(project, source))
        self.environment = {name: value for name, value in environment.items() if name != "PYTHONPATH"} | QUIET
        self.environment |= {
            "PATH": f"{TOOLS}:{os.environ['PATH']}",  # `airflow standalone` starts the other parts by name
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW_VAR_BREWCAST_PROJECT": str(project),
        }
        self("db", "migrate")

    def __call__(self, *arguments, fails: bool = False, **variables) -> str:
        options = {"env": self.environment | variables, "cwd": self.home, "capture_output": True, "text": True}
        done = subprocess.run([TOOLS / "airflow", *arguments], **options)
        if (done.returncode != 0) != fails:
            raise RuntimeError(f"{arguments}: {done.returncode}\n{done.stdout[-5000:]}{done.stderr}")
        return done.stdout + done.stderr

    def test(self, fails: bool = False, **params) -> str:
        "Run the DAG by `airflow dags test`, with parameters."
        return self("dags", "test", self.name, "--conf", json.dumps(params), fails=fails)

    def tasks(self, run_type: str = "manual", number: int = -1) -> dict[str, tuple[str | None, int]]:
        "State and number of tries of each task of a run, in the order in which they ended."
        query = "SELECT run_id FROM dag_run WHERE run_type = ? ORDER BY id"
        tasks = "SELECT task_id, state, try_number FROM task_instance WHERE run_id = ? ORDER BY end_date"
        with closing(sqlite3.connect(self.home / "airflow.db", timeout=60)) as database:
            runs = [run for (run,) in database.execute(query, (run_type,))]
            if not -len(runs) <= number < len(runs):
                return {}
            return {task: (state, tries) for task, state, tries in database.execute(tasks, (runs[number],))}
