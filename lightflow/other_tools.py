"""Words of other tools, and what is written here instead: tables for the messages about unknown words.

Read only where a file is wrong. `{value|5}` in an answer stands for what was written as the value of the key where that
is short text or a number, `{number|5}` where it is a number; else for the text behind the bar. The page `docs/reference/words-of-other-tools.md` is made from
these tables.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from lightflow.text import quoted
from liteflow.api import HOOK_EVENTS


class Foreign(NamedTuple):
    """Words that mean the same, the levels of the file where they are answered, and the tools they come from.

    `instead` are the keys whose place the word takes: where the word is reported, that they are missing is not.
    """

    words: str
    levels: str
    answer: str
    tools: str
    instead: str = ""


_CRON = (
    "there are no schedules yet: one line of the crontab starts a run, such as "
    "`{cron|0 6 * * *} cd /srv/etl && lightflow run etl.yaml` (see docs/howto/ci-and-cron.md)"
)
_HOOKS = "write a command under `on_success`, `on_failure`, `on_cancel` or `on_exit`"
_BY_FILES = "files do not decide whether a task runs; a task is skipped where a command fails: `preconditions: [{run: test ! -e out.csv}]`"
_ONE_MACHINE = "all tasks run on this machine; remove it"
_DEFAULTS = (
    "keys that tasks share are written once with an anchor: `x-all: &all {retries: 2}`, and `<<: *all` in each task"
)
_CONTAINER = "there are no containers: write `run: docker run --rm {value|IMAGE} COMMAND`"
_LABELS = "labels have no meaning here: write a comment, or a key that begins with x-"
_EXTRA = "it counts the first attempt as well; here only those after it are counted: "

#: Keys. The level of a key is that of the mapping it stands in.
KEYS: Final[tuple[Foreign, ...]] = (
    # -- the file as a whole
    Foreign("jobs", "top", "`jobs` are `tasks` here", "GitHub Actions"),
    Foreign("nodes rules targets recipes pipeline", "top", "the parts of a workflow stand under `tasks`", "Argo, Snakemake, make, just"),
    Foreign("stages stage", "top task", "there are no stages: `depends_on` says what a task waits for", "GitLab CI"),
    Foreign("workflow flow dag project id", "top", "the name is `workflow_name`", "Kestra, Argo"),
    Foreign("schedule cron on trigger triggers schedule_interval timetable crontab", "top task", _CRON, "GitHub Actions, Airflow, Dagu, Kestra"),
    Foreign("start_date end_date catchup timezone", "top task", "there are no schedules yet, so nothing has to be caught up; remove it (see docs/howto/ci-and-cron.md)", "Airflow"),
    Foreign("inputs", "top", "what a run is given is declared under `params`", "GitHub Actions, Kestra"),
    Foreign("variables vars", "top task", "write them under `env` (for all commands), or under `params` of the workflow (given by -p, read as ${{ params.NAME }})", "GitLab CI, Task, Kestra"),
    Foreign("environment", "top task hook", "environment variables stand under `env`", "docker compose"),
    Foreign("default defaults default_args extends include includes import task_defaults", "top task", _DEFAULTS, "Airflow, GitLab CI, Task"),
    Foreign("version api_version kind metadata spec", "top", "the format has no version and no envelope; remove it", "Task, docker compose, Argo"),
    Foreign("permissions runs_on runner node_selector agent machine", "top task", _ONE_MACHINE, "GitHub Actions, GitLab CI, Argo"),
    Foreign("tags labels group_name owner namespace annotations", "top task", _LABELS, "Airflow, Dagu, Kestra"),
    Foreign("max_active_runs max_active_dag_runs", "top settings", "the number of runs at once is `concurrency: {value|1}` at the top of the file", "Airflow, Dagu"),
    Foreign("queue queues", "top", "runs that wait for each other name a group: `concurrency: {value|NAME}`", "Dagu, Airflow"),
    Foreign("queue queues", "task", "tasks that share something scarce name a pool: `pool: {value|NAME}`, and `pools: {{value|NAME}: 1}` at the top of the file", "Airflow, Dagu"),
    Foreign("max_active_steps parallelism max_parallel_steps concurrency_limit max_concurrent_tasks cores processes", "top settings", "the number of tasks at once is `settings: {max_parallel_tasks: {value|4}}`", "Dagu, Argo, Snakemake"),
    Foreign("dagrun_timeout run_timeout active_deadline_seconds", "top", "write `timeout: {value|1h}`", "Airflow, Argo"),
    Foreign("handler_on handlers callbacks hooks notify notifications mail_on email_on_failure email_on_retry email smtp on_failure_callback on_success_callback", "top task", _HOOKS, "Dagu, Airflow, Kestra"),
    Foreign("on_retry_callback", "task", "write a command under `on_retry`", "Airflow"),
    Foreign("on_execute_callback before_all", "top task", "write a command under `on_start`", "Airflow"),
    Foreign("before_script pre", "top task", "write the lines at the beginning of `run`; a command before all tasks is `on_start` of the workflow", "GitLab CI, Task"),
    Foreign("after_script post", "top task", "write a command under `on_exit`", "GitLab CI"),
    Foreign("errors catch", "top task", "write a command under `on_failure`", "Kestra"),
    Foreign("hist_retention_days log_retention", "top settings", "nothing is deleted by itself: `liteflow delete DAG --db lightflow.db` removes the runs of a workflow", "Dagu"),
    Foreign("skip_if_successful run_once restart_wait_sec delay_sec", "top", "there is nothing like it; remove it", "Dagu"),
    Foreign("logs log_path log_directory", "top settings", "the folder of the logs is `settings: {log_dir: {value|logs/}}`", "Dagu"),
    Foreign("max_parallel", "top settings", "the number of tasks at once is `settings: {max_parallel_tasks: {value|4}}`", "GitHub Actions"),
    Foreign("retry_policy", "settings", "retries of all tasks are `settings: {retries: 2}`; more about them stands in each task's `retry`", "Dagu"),
    # -- what a task does
    Foreign("steps", "task", "a task is one script: write the lines into `run: |`, or make each step a task of its own", "GitHub Actions", "run"),
    Foreign("tasks jobs", "task", "a task holds no tasks: write them side by side, with `depends_on`", "Airflow, Kestra"),
    Foreign("uses", "task", "there are no actions: write what it runs as a command under `run`", "GitHub Actions", "run"),
    Foreign("with op_kwargs op_args templates_dict kwargs parameters", "task", "arguments of a Python function stand under `args` (type: python, beside `call`); a script gets values by `env`", "GitHub Actions, Airflow"),
    Foreign("bash_command", "task", "write `run`", "Airflow", "run"),
    Foreign("cmds commands lines recipe actions exec", "task hook precondition", "write `run: |` with one command on each line, or `run: [a, b]`", "Task, Dagu, doit, just", "run"),
    Foreign("entrypoint program executable", "task hook", "write the command and its arguments under `run`", "Argo, docker compose", "run"),
    Foreign("python_callable function target", "task hook", "write `type: python` with `call: module:function`", "Airflow, Luigi", "run call"),
    Foreign("operator executor plugin task_runner", "task", "the kind of a task is its `type`; a command needs none", "Airflow, Dagu, Kestra"),
    Foreign("script_file script_path", "task", "write `run: sh {value|FILE}`", "Dagu, Snakemake", "run"),
    Foreign("container image docker docker_image container_image pod", "top task", _CONTAINER, "GitHub Actions, GitLab CI, Argo, Nextflow", "run"),
    Foreign("services sidecars", "top task", "there are no service containers: a task with `setup: true` starts it, one with `teardown_of` stops it", "GitHub Actions, GitLab CI"),
    Foreign("volumes ports networks", "top task", "there are no containers: tasks see the files and the network of this machine; remove it", "docker compose, Argo"),
    Foreign("conda virtualenv venv requirements packages", "task", "name the interpreter of the environment in the command, such as `run: .venv/bin/python load.py`", "Snakemake, Nextflow, Airflow"),
    Foreign("user become privileged sudo", "top task", "tasks run as the user who starts the run; another one is `run: sudo -n -u {value|USER} COMMAND`", "docker compose"),
    Foreign("stdin input_file", "task", "write `run: COMMAND < {value|FILE}`", "Dagu"),
    Foreign("stdout stderr log_file output_file", "task", "what a task prints is in its log (`lightflow logs TASK`); `run: COMMAND > {value|FILE}` writes it into a file instead", "Dagu, Snakemake"),
    Foreign("artifacts publish_dir upload cache outputs_dir", "top task", "files stay where tasks write them; hand on their paths through `$LIGHTFLOW_OUTPUT` (see docs/howto/hand-on-values.md)", "GitLab CI, Argo, Nextflow"),
    Foreign("outputs register do_xcom_push xcom_push", "task", "values are not declared: the script writes `name=value` lines into `$LIGHTFLOW_OUTPUT` (see docs/howto/hand-on-values.md)", "GitHub Actions, Argo, Airflow"),
    Foreign("sources generates file_dep targets creates status input inputs uptodate checksum", "task", _BY_FILES, "Task, doit, Snakemake, make"),
    Foreign("workdir work_dir working_dir working_directory directory chdir workspace", "top task hook", "the folder is `cwd: {value|FOLDER}`", "Dagu, GitHub Actions, docker compose"),
    Foreign("desc doc doc_md summary help title display_name label", "top task param", "write `description`", "Task, Airflow"),
    Foreign("interactive silent quiet verbose verbosity echo", "task", "it has no meaning here: the output of every task is kept, `lightflow run --quiet` shows less", "Task, doit"),
    # -- when a task runs
    Foreign("dependencies requires require after upstream upstream_tasks wait_for task_dep waits_for prerequisites", "task", "write `depends_on`", "GitLab CI, Prefect, doit, Luigi, Argo"),
    Foreign("before downstream downstream_tasks next then required_by", "task", "written at the other end: `depends_on` in the tasks that wait for this one", "Airflow, doit"),
    Foreign("depends_on_past wait_for_downstream", "top task", "a run does not wait for older ones; one run at a time is `concurrency: 1` at the top of the file", "Airflow"),
    Foreign("condition conditions only only_if rules run_if", "task", "a condition is `if: params.full`; a command that must succeed is `preconditions: [{run: COMMAND}]`", "GitLab CI, Dagu, Kestra"),
    Foreign("except unless skip_if", "task", "write the condition with `not`: `if: not …`", "GitLab CI, Ansible"),
    Foreign("condition expected", "precondition", "a condition is `if`, a command that must succeed is `run`", "Dagu", "if run"),
    Foreign("allowed_to_fail soft_fail ignore_errors continue_on ignore_failure continue_on_failure", "task", "write `continue_on_error: true`", "GitLab CI, Ansible, Dagu"),
    Foreign("router switch", "task", "a task that decides which tasks go on has `branch: true`", "Dagu, Kestra"),
    Foreign("sensor poke_interval poll", "task", "a task that waits fails until it is time: `retries: 60` with `retry_delay: {value|1m}`", "Airflow"),
    Foreign("start_delay delay initial_delay", "task", "write `sleep {value|30}` at the beginning of `run`; the time between attempts is `retry_delay`", "Dagu"),
    # -- retries and times
    Foreign("timeout_minutes timeout_in_minutes timeout_min", "top task hook", "write `timeout: {number|5}m` (a number alone is seconds)", "GitHub Actions"),
    Foreign("timeout_hours timeout_in_hours", "top task hook", "write `timeout: {number|1}h` (a number alone is seconds)", "Airflow"),
    Foreign("timeout_sec timeout_secs timeout_s timeout_in_seconds max_runtime time_limit", "top task hook", "write `timeout: {number|30}` (seconds, or text such as 5m)", "Dagu, Prefect, Snakemake"),
    Foreign("timeout_ms timeout_millis", "top task hook", "write `timeout: 1.5` (seconds, or text such as 5m)", "other tools"),
    Foreign("execution_timeout active_deadline_seconds sla deadline", "task", "write `timeout: {value|30m}` (a number alone is seconds)", "Airflow, Argo"),
    Foreign("restart restart_policy", "task", "write `retries: 3`", "docker compose"),
    Foreign("attempts max_attempts max_tries tries", "task", _EXTRA + "write `retries: {less|2}`", "Kestra, Argo"),
    Foreign("attempts max_attempts max_tries tries", "retry", _EXTRA + "write `max: {less|2}`", "Kestra, Argo"),
    Foreign("retry_count num_retries max_retries retry_limit limit", "task hook", "write `retries: {value|2}`", "Luigi, Argo"),
    Foreign("retries count max_retries", "retry", "write `max: {value|2}`", "Prefect, Airflow"),
    Foreign("retry_delay_seconds retry_delay_sec interval_sec retry_wait wait_seconds", "task hook", "write `retry_delay: {number|5}` (seconds, or text such as 5m)", "Prefect, Dagu"),
    Foreign("retry_delay wait sleep duration initial_delay delay_seconds retry_delay_seconds", "retry", "write `delay: {number|5}` (seconds, or text such as 5m)", "Airflow, Kestra, Argo"),
    Foreign("retry_exponential_backoff exponential_backoff", "task", "write `retry_backoff: 2`", "Airflow"),
    Foreign("exponential_backoff exponential factor multiplier retry_backoff backoff_rate", "retry", "write `backoff: 2`", "Airflow, Argo, Kestra"),
    Foreign("max_duration max_interval cap max_retry_delay", "retry", "the longest wait is `max_delay: {value|10m}`", "Argo, Kestra"),
    Foreign("stop_signal signal_on_stop max_clean_up_time_sec stop_grace_period grace_period termination_grace_period_seconds", "top task", "a task that is stopped gets SIGTERM, and after `kill_grace: 30s` of the task SIGKILL", "Dagu, docker compose"),
    # -- many at once
    Foreign("parallel for_each loop items item for with_param with_sequence map expand", "task", "a task for each item is `foreach: [a, b]`, for each combination `matrix: {os: [a, b]}`", "Dagu, Argo, Kestra, Airflow, Ansible"),
    Foreign("max_active_tis_per_dag max_active_tis_per_dagrun max_concurrency concurrency", "task", "how many instances of the task run at once is `max_parallel: {value|2}`", "Airflow, Prefect"),
    Foreign("max_concurrency max_active concurrency parallel batch_size", "fan", "how many at once is `max_parallel: {value|2}`", "Dagu, Kestra"),
    Foreign("values in list with_items source", "fan", "the list is `items`", "Kestra, Dagu", "items"),
    Foreign("var name variable as_name item_var loop_var", "fan", "the name of the item is `as: {value|item}`", "Ansible, Kestra"),
    Foreign("weight priority_class", "task", "tasks with a higher `priority` go first: `priority: {value|10}`", "Airflow"),
    Foreign("cpus memory mem threads disk gpus accelerator requests limits mem_mb", "task", "tasks share what is scarce by pools: `resources: {cpu: 2}`, and `pools: {cpu: 8}` at the top of the file", "Nextflow, Snakemake, Argo"),
    Foreign("cancel_in_progress", "concurrency", "write `on_conflict: cancel`", "GitHub Actions"),
    Foreign("max max_runs max_active", "concurrency", "write `limit: {value|1}`", "Prefect"),
    Foreign("name", "concurrency", "write `group: {value|NAME}`", "GitHub Actions"),
    # -- parameters and secrets
    Foreign("choices options allowed_values one_of", "param", "the allowed values are `values: [a, b]`", "GitHub Actions, Kestra, Airflow"),
    Foreign("min min_value", "param", "write `minimum: {value|1}`", "Kestra"),
    Foreign("max max_value", "param", "write `maximum: {value|100}`", "Kestra"),
    Foreign("value", "param", "write `default: {value|100}`", "Argo, Dagu"),
    Foreign("optional nullable", "param", "write `required: false`", "Prefect"),
    Foreign("regex validator format", "param", "text is checked by a regular expression: `pattern: '[a-z]+'`", "Kestra"),
    Foreign("connections credentials vault conn_id", "top task", "what is secret is declared under `secrets` of the workflow (see docs/howto/secrets-and-environment.md)", "Airflow, Kestra"),
    Foreign("env_var variable environment", "secret", "the environment variable is `key: {value|NAME}`", "Kestra"),
)  # fmt: skip

_SHELL = "a command needs no type: write `run`"
_DOCKER = "there are no containers: write `run: docker run --rm IMAGE COMMAND`"

#: Values of `type` of a task.
TYPES: Final[tuple[Foreign, ...]] = (
    Foreign("bash zsh ksh dash ash fish", "shell", "write `shell: {value|bash}` beside `run`; the type is shell", "Dagu, Airflow, Kestra"),
    Foreign("sh command cmd exec script local run shellscript bashoperator", "shell", _SHELL, "Dagu, Kestra, Airflow"),
    Foreign("python3 py python_script pythonoperator function callable", "python", "write `type: python`", "Kestra, Airflow"),
    Foreign("docker podman container kubernetes k8s pod kubernetespodoperator", "", _DOCKER, "Dagu, Kestra, Airflow"),
    Foreign("http https rest request api simplehttpoperator webhook", "", "write `run: curl --fail URL`", "Dagu, Airflow, Kestra"),
    Foreign("ssh remote", "", "write `run: ssh HOST COMMAND`", "Dagu, Airflow"),
    Foreign("mail email smtp slack", "", "write a command that sends it, such as `run: mail -s SUBJECT ADDRESS`", "Dagu, Airflow"),
    Foreign("sql postgres postgresql mysql sqlite duckdb bigquery", "", "write a command such as `run: psql -f report.sql`, or `type: python`", "Airflow, Kestra"),
    Foreign("jq", "", "write `run: jq FILTER FILE`", "Dagu"),
    Foreign("sleep wait delay timer", "", "write `run: sleep 30`", "Argo, Kestra"),
    Foreign("file sensor filesensor", "", "write `run: test -e FILE` with `retries` and `retry_delay`", "Airflow"),
    Foreign("r julia node javascript ruby perl rscript", "", "write the interpreter before the file, such as `run: Rscript plot.R`, or take it as `shell`", "Snakemake, Kestra"),
    Foreign("dag workflow subflow subworkflow call trigger triggerdagrunoperator", "", "write `run: lightflow run OTHER.yaml`", "Dagu, Kestra, Airflow"),
    Foreign("noop empty dummy emptyoperator dummyoperator", "shell", "write `run: \"true\"`", "Airflow"),
    Foreign("parallel each foreach loop", "", "a task for each item has `foreach` or `matrix`", "Kestra, Dagu"),
    Foreign("if switch branch router", "", "a condition is the key `if`; a task that decides which tasks go on has `branch: true`", "Kestra, Dagu"),
)  # fmt: skip

#: Values of `type` of a parameter: what they are called here.
PARAM_TYPES: Final[dict[str, str]] = {
    **dict.fromkeys(["str", "text", "char", "varchar"], "string"),
    **dict.fromkeys(["int", "long", "whole"], "integer"),
    **dict.fromkeys(["float", "double", "decimal", "real"], "number"),
    **dict.fromkeys(["bool", "flag", "switch"], "boolean"),
    **dict.fromkeys(["array", "tuple", "set", "sequence"], "list"),
    **dict.fromkeys(["dict", "map", "mapping", "json"], "object"),
    **dict.fromkeys(["choice", "select", "options", "choices"], "enum"),
    **dict.fromkeys(["file", "folder", "directory", "filepath"], "path"),
    **dict.fromkeys(["day", "datetime", "timestamp", "time"], "date"),
}

#: Names at the beginning of an expression.
NAMES: Final[tuple[Foreign, ...]] = (
    Foreign("inputs vars param parameters var args", "", "parameters are read as params.{rest|NAME}", "GitHub Actions, Kestra"),
    Foreign("steps jobs outputs step ti task_instance upstream", "", "values of other tasks are tasks.NAME.outputs.KEY and tasks.NAME.result", "GitHub Actions, Kestra, Airflow"),
    Foreign("environ os environment", "", "environment variables are env.{rest|NAME}", "Prefect"),
    Foreign("secret credentials", "", "secrets are secrets.{rest|NAME}", "Kestra"),
    Foreign("ds ds_nodash ts execution_date logical_date data_interval_start data_interval_end prev_ds next_ds yesterday_ds tomorrow_ds dag_run", "", "the date of a run is run.logical_date, or a parameter such as `params: {day: {type: date, default: yesterday}}`, as params.day", "Airflow"),
    Foreign("now today yesterday date time datetime timestamp macros pendulum", "", "a date comes from a parameter, such as `params: {day: {type: date, default: today}}`, as params.day", "Airflow, Kestra"),
    Foreign("run_id dag_run_id execution run_uuid", "", "the id of the run is run.id", "Airflow, Kestra"),
    Foreign("github gitlab ci job runner dag flow", "", "there are workflow.name, workflow.dir, run.id and env.NAME", "GitHub Actions, Airflow, Kestra"),
    Foreign("null nil None_ undefined", "", "nothing is written as none", "GitHub Actions"),
    Foreign("foreach each loop value taskrun", "", "the item of a task with `foreach` is item", "Kestra, Ansible"),
)  # fmt: skip

#: Functions in an expression; `{1}` and `{2}` are the arguments as they were written.
FUNCTIONS: Final[tuple[Foreign, ...]] = (
    Foreign("contains includes", "", "write {2} in {1}", "GitHub Actions"),
    Foreign("startsWith starts_with startswith hasPrefix", "", "write {1}.startswith({2})", "GitHub Actions"),
    Foreign("endsWith ends_with endswith hasSuffix", "", "write {1}.endswith({2})", "GitHub Actions"),
    Foreign("toJSON tojson to_json json dumps", "", "write {1} | json", "GitHub Actions"),
    Foreign("fromJSON fromjson loads parseJSON", "", "write {1} | from_json", "GitHub Actions"),
    Foreign("join", "", "write {1} | join({2})", "GitHub Actions"),
    Foreign("format printf concat", "", "put texts together with ~, as in 'a-' ~ params.b", "GitHub Actions"),
    Foreign("len length size count", "", "write {1} | length", "Python"),
    Foreign("str", "", "write {1} | string", "Python"),
    Foreign("sorted", "", "write {1} | sort", "Python"),
    Foreign("int float string round abs min max sum sort list lower upper title trim first last basename dirname default", "", "write {1} | {name}", "Python"),
    Foreign("getenv get_env environ env", "", "write env.NAME", "Kestra"),
    Foreign("secret var vars get_var variable", "", "write secrets.NAME or params.NAME", "Kestra"),
    Foreign("now today yesterday date datetime time utcnow strftime", "", "a date comes from a parameter, such as `params: {day: {type: date, default: today}}`, as params.day", "Airflow, Kestra"),
    Foreign("xcom_pull output outputs task_output", "", "write tasks.NAME.result or tasks.NAME.outputs.KEY", "Airflow, Kestra"),
    Foreign("hashFiles exists fileExists read open", "", "expressions do not look at files; a command does: `preconditions: [{run: test -e FILE}]`", "GitHub Actions, Kestra"),
    Foreign("bool boolean", "", "write {1} by itself, or not {1}", "Python"),
    Foreign("failed failure_", "", "write failure()", "Ansible"),
    Foreign("succeeded successful", "", "write success()", "Azure Pipelines"),
    Foreign("canceled", "", "write cancelled()", "Azure Pipelines"),
)  # fmt: skip

#: Methods of other languages, by what is written here; `{1}` is the argument.
METHODS: Final[dict[str, str]] = {
    **dict.fromkeys(["contains", "includes", "has"], "write {1} in the value"),
    **dict.fromkeys(["toLowerCase", "to_lower", "lowercase"], "write | lower"),
    **dict.fromkeys(["toUpperCase", "to_upper", "uppercase"], "write | upper"),
    **dict.fromkeys(["startsWith", "starts_with"], "write .startswith({1})"),
    **dict.fromkeys(["endsWith", "ends_with"], "write .endswith({1})"),
    **dict.fromkeys(["length", "size", "len"], "write | length"),
    **dict.fromkeys(["replace", "replaceAll"], "write | replace(old, new)"),
    **dict.fromkeys(["trim"], "write | trim"),
    **dict.fromkeys(["join"], "write | join({1})"),
    **dict.fromkeys(["format"], "put texts together with ~"),
    **dict.fromkeys(["strftime"], "write | date('%Y-%m-%d')"),
    **dict.fromkeys(["toString", "str"], "write | string"),
}

#: Signs in an expression that have another spelling here.
OPERATORS: Final[dict[str, str]] = {
    "&&": "write `and`",
    "||": "write `or`",
    "===": "write `==`",
    "!==": "write `!=`",
    "<>": "write `!=`",
    "=~": "write a test such as params.a.startswith('x')",
    "!": "write `not`",
    "&": "write `and`",
    "=": "to compare, write `==`",
    "?": "write a if b else c",
    "$": "write the name alone, such as params.day or env.HOME",
    "`": "text stands in single quotes: 'text'",
    ";": "an expression is one value; remove what stands behind it",
}

#: Values of keys that have a choice of words: what they are called here.
VALUES: Final[dict[str, dict[str, str]]] = {
    "trigger_rule": {
        **dict.fromkeys(["all_finished", "all_completed", "all_complete", "finished"], "all_done"),
        **dict.fromkeys(["any_success", "any_succeeded", "any_successful"], "one_success"),
        **dict.fromkeys(["any_failed", "any_failure"], "one_failed"),
        **dict.fromkeys(["all_succeeded", "all_successful", "success"], "all_success"),
        **dict.fromkeys(["all_failure", "failure", "failed"], "all_failed"),
        "dummy": "always",
        "none_failed_or_skipped": "none_failed_min_one_success",
    },
    "mode": {
        **dict.fromkeys(["threads", "threading", "threadpool", "thread_pool"], "thread"),
        **dict.fromkeys(["processes", "multiprocessing", "multiprocess", "fork", "spawn"], "process"),
        **dict.fromkeys(["asyncio", "coroutine", "asynchronous"], "async"),
    },
    "output": {
        **dict.fromkeys(["text", "string", "stdout", "raw", "line", "last-line", "lastline"], "last_line"),
        **dict.fromkeys(["JSON", "object"], "json"),
    },
    "on_conflict": {
        **dict.fromkeys(["wait", "all", "block", "enqueue"], "queue"),
        **dict.fromkeys(["latest", "replace", "cancel_previous", "cancel-in-progress", "CANCEL_NEW"], "cancel"),
        **dict.fromkeys(["forbid", "error", "reject"], "fail"),
        **dict.fromkeys(["ignore", "drop"], "skip"),
    },
    "on_fail": {"failed": "fail", "error": "fail", "skipped": "skip"},
    "resume": {"always": "auto", "automatic": "auto", "never": "manual"},
    "from": {"environment": "env", "path": "file", "exec": "command", "run": "command", "shell": "command"},
    "type": PARAM_TYPES,
}

_CRON_TIMES: Final = r"@[a-z]+|[0-9*/,A-Za-z-]+( [0-9*/,A-Za-z-]+){4}"
_SCALAR = re.compile(r"[\w@*/,.+: -]{1,60}")


def fold(word: str) -> str:
    """One spelling for `timeoutSec`, `timeout-sec` and `timeout_sec`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).replace("-", "_").replace(" ", "_").lower()


def level_of(path: Sequence[str | int]) -> str:
    """What a mapping at this place of the canonical tree is."""
    if not path:
        return "top"
    last = path[-1]
    if last in HOOK_EVENTS:
        return "hook"
    if "preconditions" in path:
        return "precondition"
    named = {"settings": "settings", "retry": "retry", "concurrency": "concurrency"}
    if last in named:
        return named[str(last)]
    if last in ("matrix", "foreach", "strategy"):
        return "fan"
    return {"tasks": "task", "params": "param", "secrets": "secret"}.get(str(path[0]), "") if len(path) == 2 else ""


def key_answer(name: str, path: Sequence[str | int], value: Any = None) -> str:
    """What to write instead of the key `name` in the mapping at `path`; nothing for a word of no tool."""
    found = _key(name, level_of(path))
    return _filled(found.answer, value) if found else ""


def near_key_answer(name: str, path: Sequence[str | int], value: Any = None) -> str:
    """The same for a key that is a slip of such a word."""
    level = level_of(path)
    words = [word for one in KEYS if level in one.levels.split() for word in one.words.split()]
    near = nearest(name, words)
    return key_answer(near, path, value) if near else ""


def stands_for(name: str, path: Sequence[str | int], known: Collection[str]) -> list[str]:
    """The known keys whose place an unknown one takes: of a word of another tool, or of a slip."""
    found = _key(name, level_of(path))
    return found.instead.split() if found else [nearest(name, known)]


def _key(name: str, level: str) -> Foreign | None:
    folded = fold(name)
    return next((one for one in KEYS if level in one.levels.split() and folded in one.words.split()), None)


def value_answer(key: str, value: str) -> str:
    """What the value of a key with a choice of words is called here; nothing for a word of no tool."""
    return VALUES.get(key, {}).get(value, "")


def type_answer(name: str) -> str:
    """What to write instead of a task type of another tool."""
    found = _type(name)
    return _filled(found.answer, name.rpartition(".")[2].lower()) if found else ""


def type_meant(name: str) -> str:
    """The task type that is meant by a word of another tool, where it is certain."""
    found = _type(name)
    return found.levels if found else ""


def assumed_type(name: str, known: Collection[str]) -> str:
    """The known task type that is certainly meant by an unknown one: a slip, or a word of another tool."""
    return type_meant(name) or nearest(name, known)


def assumed_param_type(name: str, known: Collection[str]) -> str:
    """The type of a parameter that is certainly meant by an unknown one."""
    return PARAM_TYPES.get(name, "") or nearest(name, known)


def _type(name: str) -> Foreign | None:
    word = name.rpartition(".")[2].lower()  # of `io.kestra.plugin.scripts.Bash`, and of operators
    return next((one for one in TYPES if word in one.words.split()), None)


def name_answer(name: str, rest: str = "") -> str:
    """What an expression names instead of a name of another tool."""
    found = next((one for one in NAMES if name in one.words.split()), None)
    return _filled(found.answer, None).replace("{rest|NAME}", rest or "NAME") if found else ""


def function_answer(name: str, arguments: Sequence[str]) -> str:
    """What an expression says instead of a function of another tool."""
    found = next((one for one in FUNCTIONS if name in one.words.split()), None)
    if not found:
        return ""
    texts = [*arguments, *["…"] * (2 - len(arguments))]
    return found.answer.replace("{1}", texts[0]).replace("{2}", texts[1]).replace("{name}", name)


def method_answer(name: str, arguments: Sequence[str]) -> str:
    """What an expression says instead of a method of another language."""
    return METHODS.get(name, "").replace("{1}", ", ".join(arguments) or "…")


#: A unit of time other than seconds at the end of a name.
_OTHER_UNIT: Final = re.compile(
    r"(?:(?<=[a-z0-9])(?=[A-Z])|[_-])(?i:ms|msecs?|millis|milliseconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)$"
)


def close(word: str, known: Collection[str]) -> str:
    """`, did you mean "…"?` for a known word that differs by a slip of the fingers, or nothing."""
    near = nearest(word, known)
    return f", did you mean {quoted(near)}?" if near else ""


def nearest(word: str, known: Collection[str]) -> str:
    """The known word that differs by a slip of the fingers, or nothing.

    Words that merely resemble each other, such as `stdout` and `timeout`, differ in meaning. So does `retry_delay_ms`
    from `retry_delay`, which is in seconds.
    """
    folded = fold(word)
    if len(word) > 60 or _OTHER_UNIT.search(word):
        return ""
    best = min(((_slips(folded, fold(one)), one) for one in known), default=(99, ""))
    allowed = 1 if len(folded) < 5 else 2 if len(folded) < 10 else 3
    return best[1] if best[0] <= allowed else ""


def _slips(one: str, other: str) -> int:
    """How many letters have to be added, left out, exchanged with another or with their neighbour."""
    if abs(len(one) - len(other)) > 3:
        return 99
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        last, before = before, row
        row = [i]
        for j, b in enumerate(other, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def shown(answer: str) -> str:
    """An answer with the examples in it, for a page that lists all."""
    return re.sub(r"\{[a-z]+\|([^}]*)\}", r"\1", answer)


def _leaves(value: Any) -> Iterator[str]:
    """The texts in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _leaves(one)


def _filled(answer: str, value: Any) -> str:
    text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    shown = text if _SCALAR.fullmatch(text) else ""
    number = text if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else ""
    less = str(int(text) - 1) if text.isdecimal() and len(text) < 6 and int(text) > 0 else ""
    answer = re.sub(r"\{value\|([^}]*)\}", lambda found: shown or found[1], answer)
    answer = re.sub(r"\{number\|([^}]*)\}", lambda found: number or found[1], answer)
    cron = next((one for one in _leaves(value) if re.fullmatch(_CRON_TIMES, one)), "")
    answer = re.sub(r"\{cron\|([^}]*)\}", lambda found: cron or found[1], answer)
    return re.sub(r"\{less\|([^}]*)\}", lambda found: less or found[1], answer)
