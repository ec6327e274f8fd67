"""The month of the source simulated as a DAG of Airflow.

Compiled by `brewcast deploy airflow` from pipeline.yaml, env.yaml and a template (airflow.py.j2): change these, not
this file. It needs Airflow 3.2 or newer with its standard provider, and nothing of Brewcast. The workers share a disk
with the project and its environment (`make setup`); the Airflow Variable brewcast_project is the project's path there.
"""

import os
from datetime import timedelta
from glob import glob

import pendulum
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, CronTriggerTimetable, Param, Variable
from airflow.sdk.exceptions import AirflowException, AirflowFailException

# fmt: off
PARAMETERS = {  # what whoever starts a run may give
    "source": Param(
        "simulated", description="the source whose month is processed",
        type="string", enum=["simulated"],
    ),
    "through": Param(
        "", description="the month to process, such as 2012-10; empty: the next",
        type="string", pattern=r"^(\d{4}-(0[1-9]|1[0-2]))?$",
    ),
    "overrides": Param(
        "", description="other parameters for this run, such as: train.seed=1 max_change=2",
        type="string", pattern=r"^([\w.]+=.+)?$",
    ),
}
STEPS = {  # step -> the steps that must have succeeded before, and the arguments of `brewcast`
    "resolve": (
        [],
        ["step", "resolve", "--source", "{{ params.source }}", "--through", "{{ params.through }}", "--overrides", "{{ params.overrides }}"],
    ),
    "ingest": (
        ["resolve"],
        ["step", "stage", "ingest", "--source", "{{ params.source }}"],
    ),
    "clean": (
        ["resolve", "ingest"],
        ["step", "stage", "clean", "--source", "{{ params.source }}"],
    ),
    "explore": (
        ["resolve", "ingest", "clean"],
        ["step", "stage", "explore", "--source", "{{ params.source }}"],
    ),
    "features": (
        ["resolve", "ingest", "clean"],
        ["step", "stage", "features", "--source", "{{ params.source }}"],
    ),
    "monitor": (
        ["resolve", "clean", "features"],
        ["step", "stage", "monitor", "--source", "{{ params.source }}"],
    ),
    "train": (
        ["resolve", "clean", "features", "monitor"],
        ["step", "stage", "train", "--source", "{{ params.source }}"],
    ),
    "evaluate": (
        ["resolve", "ingest", "features", "train"],
        ["step", "stage", "evaluate", "--source", "{{ params.source }}"],
    ),
    "forecast": (
        ["resolve", "ingest", "clean", "features", "monitor", "train", "evaluate"],
        ["step", "stage", "forecast", "--source", "{{ params.source }}"],
    ),
    "package": (
        ["resolve", "features", "train", "evaluate", "forecast"],
        ["step", "stage", "package", "--source", "{{ params.source }}"],
    ),
    "publish": (
        ["resolve", "ingest", "clean", "explore", "features", "monitor", "train", "evaluate", "forecast", "package"],
        ["step", "publish", "--source", "{{ params.source }}"],
    ),
}
WATCHED = [  # files of the data, and the records of the months
    "data/simulated",
    "data/simulated/**",
    "state/simulated/months/*.json",
]
# fmt: on


class Step(BaseOperator):
    "A step of the month. Exit status 75 alone is tried again: a server away, a lock held, a full disk."

    template_fields = ("arguments",)

    def __init__(self, arguments, **options):
        super().__init__(**options)
        self.arguments = arguments
        self.process = SubprocessHook()

    def execute(self, context):
        try:
            project = Variable.get("brewcast_project")
            command = [f"{project}/.venv/bin/python", "-m", "brewcast.cli", *self.arguments]
            status = self.process.run_command(command, env=os.environ | {"BREWCAST_ROOT": ""}, cwd=project).exit_code
        except Exception as error:
            raise AirflowFailException(f"brewcast did not start: {error}") from error
        if status == 75:
            raise AirflowException("a temporary failure, which may be over at the next try")
        if status:
            raise AirflowFailException(f"brewcast ended with status {status}: the same again would fail again")

    def on_kill(self):
        self.process.send_sigterm()


class NewData(BaseSensorOperator):
    "Wait until data, or the record of a month, has changed since the last successful run began. It decides nothing."

    def poke(self, context):
        if context["dag_run"].run_type != "scheduled":
            return True  # whoever starts a run does not wait
        project, since = Variable.get("brewcast_project"), context["prev_start_date_success"]
        paths = [path for pattern in WATCHED for path in glob(os.path.join(project, pattern), recursive=True)]
        changed = [os.stat(path).st_ctime for path in paths if os.path.isfile(path)]  # ctime counts moved files, too
        return max(changed, default=0) > (since.timestamp() if since else 0)


with DAG(
    "brewcast_simulated",
    description="The month of the source simulated: from its data to a published forecast",
    params=PARAMETERS,
    schedule=CronTriggerTimetable("15 6 * * *", timezone="Etc/UTC"),
    start_date=pendulum.datetime(2024, 1, 1, tz="Etc/UTC"),
    catchup=False,  # a month that was missed is processed by the next run
    max_active_runs=1,  # no two runs publish
    max_active_tasks=1,  # steps in one folder take turns: a second one would only wait, and hold a worker's slot
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30.0), "retry_exponential_backoff": 2.0},
) as dag:
    tasks = {"wait_for_data": NewData(task_id="wait_for_data", mode="reschedule", poke_interval=600, soft_fail=True)}
    for name, (upstream, arguments) in STEPS.items():
        tasks[name] = Step(task_id=name, arguments=arguments)
        tasks[name].set_upstream([tasks[before] for before in upstream or ["wait_for_data"]])
