"What Airflow reads from a DAG file, as JSON: run by the Python of .venv-airflow with the folder and the DAG's name."

import contextlib
import json
import sys

from airflow.dag_processing.dagbag import DagBag

with contextlib.redirect_stdout(sys.stderr):  # Airflow logs to standard output
    bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
dag = bag.dags[sys.argv[2]]
facts = {
    "tasks": {
        task.task_id: {
            "upstream": sorted(task.upstream_task_ids),
            "retries": task.retries,
            "delay": task.retry_delay.total_seconds(),
            "backoff": task.retry_exponential_backoff,
            "rule": task.trigger_rule,
            "arguments": getattr(task, "arguments", None),
        }
        for task in dag.tasks
    },
    "params": {name: dag.params.get_param(name).dump() for name in dag.params},
    "cron": dag.timetable.expression,
    "time_zone": str(dag.timetable.timezone),
    "starts": str(dag.start_date),
    "ends": dag.end_date and str(dag.end_date),
    "catchup": dag.catchup,
    "most_runs": dag.max_active_runs,
    "most_tasks": dag.max_active_tasks,
}
print(json.dumps(facts, default=str))
