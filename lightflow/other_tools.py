"""Words of other tools, and what to write instead: tables for the messages about unknown words.

Only files with an error need this module. In an answer, `{value|5}` stands for the value in the file where that is short
text or a number, `{number|5}` where it is a number, `{less|5}` for one less; otherwise for the text after the bar.
The page `docs/reference/words-of-other-tools.md` is generated from these tables.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from lightflow.spelling import fold, nearest, typo_hint
from lightflow.text import quoted
from liteflow.api import HOOK_EVENTS


class ForeignTerm(NamedTuple):
    """Words of other tools that mean the same, and the answer to them."""

    words: str  #: between spaces
    levels: str  #: the levels of the file at which they are answered; of a type: the type that they certainly mean
    answer: str
    tools: str
    instead: str = ""  #: the keys whose place the words take: a message about the word is enough


_CRON = 'runs start at `schedule: "{cron|0 6 * * *}"` at the top of the file, while `lightflow serve` runs'
_HOOKS = "write a command under `on_success`, `on_failure`, `on_cancel` or `on_exit`"
_BY_FILES = "files do not decide whether a task runs; a task is skipped where a command fails: `preconditions: [{run: test ! -e out.csv}]`"
_ONE_MACHINE = "all tasks run on this machine; remove it"
_DEFAULTS = "keys that tasks share are written once: `defaults: {retries: 2}` at the top of the file"
_INCLUDE = "a workflow file is included as a group of tasks: `tasks: {GROUP: {include: FILE}}`"
_CONTAINER = "a task runs in a container with `container: {value|IMAGE}` next to its `run`; a task that runs the program of an image has `type: docker`"
_LABELS = "labels have no meaning here: write a comment, or a key that begins with x-"
_EXTRA = "it counts the first attempt too; here only the attempts after it are counted: "

#: Keys. The level of a key is that of its mapping.
KEYS: Final[tuple[ForeignTerm, ...]] = (
    # -- the file as a whole
    ForeignTerm("jobs", "top", "`jobs` are `tasks` here", "GitHub Actions"),
    ForeignTerm("nodes rules targets recipes pipeline", "top", "the parts of a workflow are under `tasks`", "Argo, Snakemake, make, just"),
    ForeignTerm("stages stage", "top task", "there are no stages: `depends_on` says what a task waits for", "GitLab CI"),
    ForeignTerm("workflow flow dag project id", "top", "the name is `workflow_name`", "Kestra, Argo"),
    ForeignTerm("cron trigger triggers schedule_interval timetable crontab", "top task", _CRON, "GitHub Actions, Airflow, Dagu, Kestra"),
    ForeignTerm("start_date end_date catchup timezone", "top task", "it is a key of `schedule` at the top of the file (see docs/howto/schedules.md)", "Airflow"),
    ForeignTerm("inputs", "top", "the inputs of a run are declared under `params`", "GitHub Actions, Kestra"),
    ForeignTerm("variables vars", "top task", "write them under `env` (for all commands), or under `params` of the workflow (set by -p, read as ${{ params.NAME }})", "GitLab CI, Task, Kestra"),
    ForeignTerm("environment", "top task hook", "environment variables are under `env`", "docker compose"),
    ForeignTerm("default default_args extends task_defaults", "top task", _DEFAULTS, "Airflow, GitLab CI, Task"),
    ForeignTerm("include includes import imports", "top", _INCLUDE, "GitLab CI, Task, docker compose, just"),
    ForeignTerm("version api_version kind metadata spec", "top", "the format has no version and no envelope; remove it", "Task, docker compose, Argo"),
    ForeignTerm("permissions runs_on runner node_selector agent machine", "top task", _ONE_MACHINE, "GitHub Actions, GitLab CI, Argo"),
    ForeignTerm("tags labels group_name owner namespace annotations", "top task", _LABELS, "Airflow, Dagu, Kestra"),
    ForeignTerm("max_active_runs max_active_dag_runs", "top settings", "the number of runs at once is `concurrency: {value|1}` at the top of the file", "Airflow, Dagu"),
    ForeignTerm("queue queues", "top", "runs that must not run together name a group: `concurrency: {value|NAME}`", "Dagu, Airflow"),
    ForeignTerm("queue queues", "task", "tasks that share a limited resource name a pool: `pool: {value|NAME}`, and `pools: {{value|NAME}: 1}` at the top of the file", "Airflow, Dagu"),
    ForeignTerm("max_active_steps parallelism max_parallel_steps concurrency_limit max_concurrent_tasks cores processes", "top settings", "the number of tasks at once is `settings: {max_parallel_tasks: {value|4}}`", "Dagu, Argo, Snakemake"),
    ForeignTerm("dagrun_timeout run_timeout active_deadline_seconds", "top", "write `timeout: {value|1h}`", "Airflow, Argo"),
    ForeignTerm("handler_on handlers callbacks hooks notify notifications mail_on email_on_failure email_on_retry email smtp on_failure_callback on_success_callback", "top task", _HOOKS, "Dagu, Airflow, Kestra"),
    ForeignTerm("on_retry_callback", "task", "write a command under `on_retry`", "Airflow"),
    ForeignTerm("on_execute_callback before_all", "top task", "write a command under `on_start`", "Airflow"),
    ForeignTerm("before_script pre", "top task", "write the lines at the beginning of `run`; a command before all tasks is `on_start` of the workflow", "GitLab CI, Task"),
    ForeignTerm("after_script post", "top task", "write a command under `on_exit`", "GitLab CI"),
    ForeignTerm("errors catch", "top task", "write a command under `on_failure`", "Kestra"),
    ForeignTerm("hist_retention_days log_retention", "top settings", "set `retention: {days: 30}` under `settings`", "Dagu"),
    ForeignTerm("skip_if_successful run_once restart_wait_sec delay_sec", "top", "there is no equivalent; remove it", "Dagu"),
    ForeignTerm("logs log_path log_directory", "top settings", "the folder of the logs is `settings: {log_dir: {value|logs/}}`", "Dagu"),
    ForeignTerm("max_parallel", "top settings", "the number of tasks at once is `settings: {max_parallel_tasks: {value|4}}`", "GitHub Actions"),
    ForeignTerm("retry_policy", "settings", "retries of all tasks are `settings: {retries: 2}`; details are in each task's `retry`", "Dagu"),
    # -- what a task does
    ForeignTerm("steps", "task", "a task is one script: write the lines into `run: |`, or make each step a task of its own", "GitHub Actions", "run"),
    ForeignTerm("jobs", "task", "tasks below a task are a group: its `tasks`", "Airflow, Kestra"),
    ForeignTerm("uses", "task", "there are no actions: write what it runs as a command under `run`", "GitHub Actions", "run"),
    ForeignTerm("with op_kwargs op_args templates_dict kwargs parameters", "task", "arguments of a Python function are under `args` (type: python, next to `call`); a script gets values by `env`", "GitHub Actions, Airflow"),
    ForeignTerm("bash_command", "task", "write `run`", "Airflow", "run"),
    ForeignTerm("cmds commands lines recipe actions exec", "task hook precondition", "write `run: |` with one command on each line, or `run: [a, b]`", "Task, Dagu, doit, just", "run"),
    ForeignTerm("entrypoint program executable", "task hook", "write the command and its arguments under `run`", "Argo, docker compose", "run"),
    ForeignTerm("python_callable function target", "task hook", "write `type: python` with `call: module:function`", "Airflow, Luigi", "run call"),
    ForeignTerm("operator executor plugin task_runner", "task", "the kind of a task is its `type`; a command needs none", "Airflow, Dagu, Kestra"),
    ForeignTerm("script_file script_path", "task", "write `run: sh {value|FILE}`", "Dagu, Snakemake", "run"),
    ForeignTerm("container", "top", _CONTAINER, "GitLab CI", "run"),
    ForeignTerm("image docker docker_image container_image pod", "top task", _CONTAINER, "GitHub Actions, GitLab CI, Argo, Nextflow", "run"),
    ForeignTerm("services sidecars", "top task", "there are no service containers: a task with `setup: true` starts it, one with `teardown_of` stops it", "GitHub Actions, GitLab CI"),
    ForeignTerm("volumes", "top task", "the volumes of a task are in its container: `container: {image: IMAGE, volumes: [SOURCE:/TARGET]}`", "docker compose, Argo"),
    ForeignTerm("ports networks", "top task", "containers publish no ports; their network is `container: {image: IMAGE, network: NAME}`", "docker compose, Argo"),
    ForeignTerm("conda virtualenv venv requirements packages", "task", "a Python task names its packages under `environment`; another task names the interpreter in the command, such as `run: .venv/bin/python load.py`", "Snakemake, Nextflow, Airflow"),
    ForeignTerm("user become privileged sudo", "top task", "tasks run as the user who starts the run; another one is `run: sudo -n -u {value|USER} COMMAND`", "docker compose"),
    ForeignTerm("stdin input_file", "task", "write `run: COMMAND < {value|FILE}`", "Dagu"),
    ForeignTerm("stdout stderr log_file output_file", "task", "what a task prints is in its log (`lightflow logs TASK`); `run: COMMAND > {value|FILE}` writes it into a file instead", "Dagu, Snakemake"),
    ForeignTerm("artifacts publish_dir upload cache outputs_dir", "top task", "files stay where tasks write them; pass their paths through `$LIGHTFLOW_OUTPUT` (see docs/howto/pass-values.md)", "GitLab CI, Argo, Nextflow"),
    ForeignTerm("outputs register do_xcom_push xcom_push", "task", "values are not declared: the script writes `name=value` lines into `$LIGHTFLOW_OUTPUT` (see docs/howto/pass-values.md)", "GitHub Actions, Argo, Airflow"),
    ForeignTerm("sources generates file_dep targets creates status input inputs uptodate checksum", "task", _BY_FILES, "Task, doit, Snakemake, make"),
    ForeignTerm("workdir work_dir working_dir working_directory directory chdir workspace", "top task hook", "the folder is `cwd: {value|FOLDER}`", "Dagu, GitHub Actions, docker compose"),
    ForeignTerm("desc doc doc_md summary help title display_name label", "top task param", "write `description`", "Task, Airflow"),
    ForeignTerm("interactive silent quiet verbose verbosity echo", "task", "it has no meaning here: every task has a log, `lightflow run --quiet` shows less", "Task, doit"),
    # -- when a task runs
    ForeignTerm("dependencies requires require after upstream upstream_tasks wait_for task_dep waits_for prerequisites", "task", "write `depends_on`", "GitLab CI, Prefect, doit, Luigi, Argo"),
    ForeignTerm("before downstream downstream_tasks next then required_by", "task", "write `depends_on` in the downstream tasks", "Airflow, doit"),
    ForeignTerm("depends_on_past wait_for_downstream", "top task", "a run does not wait for older ones; one run at a time is `concurrency: 1` at the top of the file", "Airflow"),
    ForeignTerm("condition conditions only only_if rules run_if", "task", "a condition is `if: params.full`; a command that must succeed is `preconditions: [{run: COMMAND}]`", "GitLab CI, Dagu, Kestra"),
    ForeignTerm("except unless skip_if", "task", "write the condition with `not`: `if: not …`", "GitLab CI, Ansible"),
    ForeignTerm("condition expected", "precondition", "a condition is `if`, a command that must succeed is `run`", "Dagu", "if run"),
    ForeignTerm("allowed_to_fail soft_fail ignore_errors continue_on ignore_failure continue_on_failure", "task", "write `continue_on_error: true`", "GitLab CI, Ansible, Dagu"),
    ForeignTerm("router switch", "task", "a task that selects the tasks that run has `branch: true`", "Dagu, Kestra"),
    ForeignTerm("sensor poke_interval poll", "task", "a task that waits is `type: wait`, with `every: {value|1m}`", "Airflow"),
    ForeignTerm("start_delay delay initial_delay", "task", "write `sleep {value|30}` at the beginning of `run`; the time between attempts is `retry_delay`", "Dagu"),
    # -- retries and times
    ForeignTerm("timeout_minutes timeout_in_minutes timeout_min", "top task hook", "write `timeout: {number|5}m` (a number alone is seconds)", "GitHub Actions"),
    ForeignTerm("timeout_hours timeout_in_hours", "top task hook", "write `timeout: {number|1}h` (a number alone is seconds)", "Airflow"),
    ForeignTerm("timeout_sec timeout_secs timeout_s timeout_in_seconds max_runtime time_limit", "top task hook", "write `timeout: {number|30}` (seconds, or text such as 5m)", "Dagu, Prefect, Snakemake"),
    ForeignTerm("timeout_ms timeout_millis", "top task hook", "write `timeout: 1.5` (seconds, or text such as 5m)", "other tools"),
    ForeignTerm("execution_timeout active_deadline_seconds sla deadline", "task", "write `timeout: {value|30m}` (a number alone is seconds)", "Airflow, Argo"),
    ForeignTerm("restart restart_policy", "task", "write `retries: 3`", "docker compose"),
    ForeignTerm("attempts max_attempts max_tries tries", "task", _EXTRA + "write `retries: {less|2}`", "Kestra, Argo"),
    ForeignTerm("attempts max_attempts max_tries tries", "retry", _EXTRA + "write `max: {less|2}`", "Kestra, Argo"),
    ForeignTerm("retry_count num_retries max_retries retry_limit limit", "task hook", "write `retries: {value|2}`", "Luigi, Argo"),
    ForeignTerm("retries count max_retries", "retry", "write `max: {value|2}`", "Prefect, Airflow"),
    ForeignTerm("retry_delay_seconds retry_delay_sec interval_sec retry_wait wait_seconds", "task hook", "write `retry_delay: {number|5}` (seconds, or text such as 5m)", "Prefect, Dagu"),
    ForeignTerm("retry_delay wait sleep duration initial_delay delay_seconds retry_delay_seconds", "retry", "write `delay: {number|5}` (seconds, or text such as 5m)", "Airflow, Kestra, Argo"),
    ForeignTerm("retry_exponential_backoff exponential_backoff", "task", "write `retry_backoff: 2`", "Airflow"),
    ForeignTerm("exponential_backoff exponential factor multiplier retry_backoff backoff_rate", "retry", "write `backoff: 2`", "Airflow, Argo, Kestra"),
    ForeignTerm("max_duration max_interval cap max_retry_delay", "retry", "the longest wait is `max_delay: {value|10m}`", "Argo, Kestra"),
    ForeignTerm("stop_signal signal_on_stop max_clean_up_time_sec stop_grace_period grace_period termination_grace_period_seconds", "top task", "a task that is stopped gets SIGTERM, and after `kill_grace: 30s` of the task SIGKILL", "Dagu, docker compose"),
    # -- many at once
    ForeignTerm("parallel for_each loop items item for with_param with_sequence map expand", "task", "a task for each item is `foreach: [a, b]`, for each combination `matrix: {os: [a, b]}`", "Dagu, Argo, Kestra, Airflow, Ansible"),
    ForeignTerm("max_active_tis_per_dag max_active_tis_per_dagrun max_concurrency concurrency", "task", "how many instances of the task run at once is `max_parallel: {value|2}`", "Airflow, Prefect"),
    ForeignTerm("max_concurrency max_active concurrency parallel batch_size", "fan", "how many at once is `max_parallel: {value|2}`", "Dagu, Kestra"),
    ForeignTerm("values in list with_items source", "fan", "the list is `items`", "Kestra, Dagu", "items"),
    ForeignTerm("var name variable as_name item_var loop_var", "fan", "the name of the item is `as: {value|item}`", "Ansible, Kestra"),
    ForeignTerm("weight priority_class", "task", "tasks with a higher `priority` go first: `priority: {value|10}`", "Airflow"),
    ForeignTerm("cpus memory mem threads disk gpus accelerator requests limits mem_mb", "task", "tasks share limited resources by pools: `resources: {cpu: 2}`, and `pools: {cpu: 8}` at the top of the file", "Nextflow, Snakemake, Argo"),
    ForeignTerm("cancel_in_progress", "concurrency", "write `on_conflict: cancel`", "GitHub Actions"),
    ForeignTerm("max max_runs max_active", "concurrency", "write `limit: {value|1}`", "Prefect"),
    ForeignTerm("name", "concurrency", "write `group: {value|NAME}`", "GitHub Actions"),
    # -- parameters and secrets
    ForeignTerm("choices options allowed_values one_of", "param", "the allowed values are `values: [a, b]`", "GitHub Actions, Kestra, Airflow"),
    ForeignTerm("min min_value", "param", "write `minimum: {value|1}`", "Kestra"),
    ForeignTerm("max max_value", "param", "write `maximum: {value|100}`", "Kestra"),
    ForeignTerm("value", "param", "write `default: {value|100}`", "Argo, Dagu"),
    ForeignTerm("optional nullable", "param", "write `required: false`", "Prefect"),
    ForeignTerm("regex validator format", "param", "text is checked by a regular expression: `pattern: '[a-z]+'`", "Kestra"),
    ForeignTerm("conn_id connection_id http_conn_id postgres_conn_id mysql_conn_id aws_conn_id", "task", "a named connection is declared under `connections` of the workflow; write `connection: {value|NAME}`", "Airflow"),
    ForeignTerm("credentials vault", "top task", "secrets are declared under `secrets` of the workflow (see docs/howto/secrets-and-environment.md)", "Airflow, Kestra"),
    ForeignTerm("env_var variable environment", "secret", "the environment variable is `key: {value|NAME}`", "Kestra"),
)  # fmt: skip

_SHELL = "a command needs no type: write `run`"
_DOCKER = "a task that runs the program of an image has `type: docker`, also with podman; a script runs in one with `container: IMAGE`"

#: Values of `type` of a task.
TYPES: Final[tuple[ForeignTerm, ...]] = (
    ForeignTerm("bash zsh ksh dash ash fish", "shell", "write `shell: {value|bash}` next to `run`; the type is shell", "Dagu, Airflow, Kestra"),
    ForeignTerm("sh command cmd exec script local run shellscript bashoperator", "shell", _SHELL, "Dagu, Kestra, Airflow"),
    ForeignTerm("venv virtualenv conda uv pipenv poetry pythonvirtualenvoperator externalpythonoperator", "python", "write `type: python`, with the packages under `environment`", "Airflow, Snakemake"),
    ForeignTerm("notebook jupyter papermill nbconvert papermilloperator", "shell", "write `run: papermill IN.ipynb OUT.ipynb`", "Airflow, Kestra, Snakemake"),
    ForeignTerm("s3 gcs azure_blob sftp ftp scp rsync", "shell", "write a command of its client, such as `run: aws s3 cp FILE s3://BUCKET/`", "Airflow, Kestra"),
    ForeignTerm("dbt spark sparksubmitoperator terraform ansible helm", "shell", "write its command, such as `run: dbt build`", "Airflow, Kestra"),
    ForeignTerm("python3 py python_script pythonoperator function callable", "python", "write `type: python`", "Kestra, Airflow"),
    ForeignTerm("podman container docker_run containerd dockeroperator", "docker", _DOCKER, "Dagu, Kestra, Airflow"),
    ForeignTerm("kubernetes k8s pod kubernetespodoperator", "", _DOCKER, "Airflow, Kestra"),
    ForeignTerm("https rest request http_request httprequest curl httpie api graphql simplehttpoperator httpoperator", "http", "write `type: http` with `url`", "Dagu, Airflow, Kestra"),
    ForeignTerm("slack ntfy webhook slackwebhookoperator slackapipostoperator", "notify", "write `type: notify` with `slack`, `ntfy` or `webhook`", "Airflow, Kestra"),
    ForeignTerm("lambda_function aws_lambda lambdainvokefunctionoperator awslambdainvokefunctionoperator", "lambda", "write `type: lambda` with `function`", "Airflow, Kestra"),
    ForeignTerm("ssh remote", "", "write `run: ssh HOST COMMAND`", "Dagu, Airflow"),
    ForeignTerm("email smtp emailoperator", "mail", "write `type: mail` with `server`, `from` and `to`", "Dagu, Airflow"),
    ForeignTerm("postgres postgresql mysql mariadb sqlite duckdb query sqlexecutequeryoperator postgresoperator mysqloperator sqliteoperator", "sql", "write `type: sql` with `connection` and `sql`", "Airflow, Kestra, Dagu"),
    ForeignTerm("bigquery snowflake redshift oracle mssql sqlserver clickhouse trino", "", "write a command of its client, such as `run: bq query …`, or `type: python`; a server that speaks the protocol of PostgreSQL or MySQL is `type: sql`", "Airflow, Kestra"),
    ForeignTerm("jq", "", "write `run: jq FILTER FILE`", "Dagu"),
    ForeignTerm("sleep delay timer datetimesensor timedeltasensor", "wait", "write `type: wait` with `duration: 30s`, or with `until`", "Argo, Kestra, Airflow"),
    ForeignTerm("file sensor filesensor externaltasksensor", "wait", "write `type: wait` with `file: in.csv`, `command` or `run`", "Airflow"),
    ForeignTerm("r julia node javascript ruby perl rscript", "", "write the interpreter before the file, such as `run: Rscript plot.R`, or take it as `shell`", "Snakemake, Kestra"),
    ForeignTerm("manual pause input hitl manualapproval hitloperator", "approval", "write `type: approval` with `message`", "Kestra, Argo, Airflow"),
    ForeignTerm("dag subflow subworkflow call trigger triggerdagrunoperator", "workflow", "write `type: workflow` with `file`", "Dagu, Kestra, Airflow"),
    ForeignTerm("noop empty dummy emptyoperator dummyoperator", "shell", "write `run: \"true\"`", "Airflow"),
    ForeignTerm("parallel each foreach loop", "", "a task for each item has `foreach` or `matrix`", "Kestra, Dagu"),
    ForeignTerm("if switch branch router", "", "a condition is the key `if`; a task that selects the tasks that run has `branch: true`", "Kestra, Dagu"),
)  # fmt: skip

#: Values of `type` of a parameter, and our types.
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
NAMES: Final[tuple[ForeignTerm, ...]] = (
    ForeignTerm("inputs vars param parameters var args", "", "parameters are read as params.{rest|NAME}", "GitHub Actions, Kestra"),
    ForeignTerm("steps jobs outputs step ti task_instance upstream", "", "values of other tasks are tasks.NAME.outputs.KEY and tasks.NAME.result", "GitHub Actions, Kestra, Airflow"),
    ForeignTerm("environ os environment", "", "environment variables are env.{rest|NAME}", "Prefect"),
    ForeignTerm("secret credentials", "", "secrets are secrets.{rest|NAME}", "Kestra"),
    ForeignTerm("ds ds_nodash ts execution_date logical_date data_interval_start data_interval_end prev_ds next_ds yesterday_ds tomorrow_ds dag_run", "", "the date of a run is run.logical_date, or a parameter such as `params: {day: {type: date, default: yesterday}}`, as params.day", "Airflow"),
    ForeignTerm("now today yesterday date time datetime timestamp macros pendulum", "", "a date comes from a parameter, such as `params: {day: {type: date, default: today}}`, as params.day", "Airflow, Kestra"),
    ForeignTerm("run_id dag_run_id execution run_uuid", "", "the id of the run is run.id", "Airflow, Kestra"),
    ForeignTerm("github gitlab ci job runner dag flow", "", "there are workflow.name, workflow.dir, run.id and env.NAME", "GitHub Actions, Airflow, Kestra"),
    ForeignTerm("null nil None_ undefined", "", "nothing is written as none", "GitHub Actions"),
    ForeignTerm("foreach each loop value taskrun", "", "the item of a task with `foreach` is item", "Kestra, Ansible"),
)  # fmt: skip

#: Functions in an expression; `{1}` and `{2}` are the arguments as written.
FUNCTIONS: Final[tuple[ForeignTerm, ...]] = (
    ForeignTerm("contains includes", "", "write {2} in {1}", "GitHub Actions"),
    ForeignTerm("startsWith starts_with startswith hasPrefix", "", "write {1}.startswith({2})", "GitHub Actions"),
    ForeignTerm("endsWith ends_with endswith hasSuffix", "", "write {1}.endswith({2})", "GitHub Actions"),
    ForeignTerm("toJSON tojson to_json json dumps", "", "write {1} | json", "GitHub Actions"),
    ForeignTerm("fromJSON fromjson loads parseJSON", "", "write {1} | from_json", "GitHub Actions"),
    ForeignTerm("join", "", "write {1} | join({2})", "GitHub Actions"),
    ForeignTerm("format printf concat", "", "put texts together with ~, as in 'a-' ~ params.b", "GitHub Actions"),
    ForeignTerm("len length size count", "", "write {1} | length", "Python"),
    ForeignTerm("str", "", "write {1} | string", "Python"),
    ForeignTerm("sorted", "", "write {1} | sort", "Python"),
    ForeignTerm("int float string round abs min max sum sort list lower upper title trim first last basename dirname default", "", "write {1} | {name}", "Python"),
    ForeignTerm("getenv get_env environ env", "", "write env.NAME", "Kestra"),
    ForeignTerm("secret var vars get_var variable", "", "write secrets.NAME or params.NAME", "Kestra"),
    ForeignTerm("now today yesterday date datetime time utcnow strftime", "", "a date comes from a parameter, such as `params: {day: {type: date, default: today}}`, as params.day", "Airflow, Kestra"),
    ForeignTerm("xcom_pull output outputs task_output", "", "write tasks.NAME.result or tasks.NAME.outputs.KEY", "Airflow, Kestra"),
    ForeignTerm("hashFiles exists fileExists read open", "", "expressions do not look at files; a command does: `preconditions: [{run: test -e FILE}]`", "GitHub Actions, Kestra"),
    ForeignTerm("bool boolean", "", "write {1} alone, or not {1}", "Python"),
    ForeignTerm("failed failure_", "", "write failure()", "Ansible"),
    ForeignTerm("succeeded successful", "", "write success()", "Azure Pipelines"),
    ForeignTerm("canceled", "", "write cancelled()", "Azure Pipelines"),
)  # fmt: skip

#: Methods of other languages, and what to write instead; `{1}` is the argument.
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

#: Operators in an expression, and what to write instead.
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
    "`": "text needs single quotes: 'text'",
    ";": "an expression is one value; remove the rest",
}

#: Values of keys with an enumeration, and our values.
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


def level_of(path: Sequence[str | int]) -> str:
    """Return the level of the mapping at a path of the normalized tree."""
    if not path:
        return "top"
    last = path[-1]
    if last in HOOK_EVENTS:
        return "hook"
    if "preconditions" in path:
        return "precondition"
    if last in ("settings", "retry", "concurrency"):
        return str(last)
    if last in ("matrix", "foreach", "strategy"):
        return "fan"
    return {"tasks": "task", "params": "param", "secrets": "secret"}.get(str(path[0]), "") if len(path) == 2 else ""


def key_answer(name: str, path: Sequence[str | int], value: Any = None) -> str:
    """Return what to write instead of the key `name` in the mapping at `path`; empty where no tool has this word."""
    term = _key(name, level_of(path))
    return _filled(term.answer, value) if term else ""


def near_key_answer(name: str, path: Sequence[str | int], value: Any = None) -> str:
    """Return what to write instead of a key that is such a word with a typing error."""
    level = level_of(path)
    words = [word for term in KEYS if level in term.levels.split() for word in term.words.split()]
    near = nearest(name, words)
    return key_answer(near, path, value) if near else ""


def replaced_keys(name: str, path: Sequence[str | int], keys: Collection[str]) -> list[str]:
    """Return the keys whose place an unknown key takes: a word of another tool, or a key with a typing error."""
    term = _key(name, level_of(path))
    return term.instead.split() if term else [nearest(name, keys)]


def _key(name: str, level: str) -> ForeignTerm | None:
    folded = fold(name)
    return next((term for term in KEYS if level in term.levels.split() and folded in term.words.split()), None)


def value_answer(key: str, value: str) -> str:
    """Return our value of a key for that of another tool; empty where no tool has this word."""
    return VALUES.get(key, {}).get(value, "")


def type_answer(name: str) -> str:
    """Return what to write instead of a task type of another tool."""
    term = _type(name)
    return _filled(term.answer, name.rpartition(".")[2].lower()) if term else ""


def assumed_type(name: str, names: Collection[str]) -> str:
    """Return the task type that an unknown type certainly means: a word of another tool, or a typing error."""
    term = _type(name)
    return (term.levels if term else "") or nearest(name, names)


def assumed_param_type(name: str, names: Collection[str]) -> str:
    """Return the type of a parameter that an unknown type certainly means."""
    return PARAM_TYPES.get(name, "") or nearest(name, names)


def _type(name: str) -> ForeignTerm | None:
    word = name.rpartition(".")[2].lower()  # of `io.kestra.plugin.scripts.Bash`, and of operators
    return next((term for term in TYPES if word in term.words.split()), None)


def name_answer(name: str, rest: str = "") -> str:
    """Return what to write in an expression instead of a name of another tool."""
    term = next((term for term in NAMES if name in term.words.split()), None)
    return _filled(term.answer, None).replace("{rest|NAME}", rest or "NAME") if term else ""


def function_answer(name: str, arguments: Sequence[str]) -> str:
    """Return what to write in an expression instead of a function of another tool."""
    term = next((term for term in FUNCTIONS if name in term.words.split()), None)
    if not term:
        return ""
    texts = [*arguments, *["…"] * (2 - len(arguments))]
    return term.answer.replace("{1}", texts[0]).replace("{2}", texts[1]).replace("{name}", name)


def method_answer(name: str, arguments: Sequence[str]) -> str:
    """Return what to write in an expression instead of a method of another language."""
    return METHODS.get(name, "").replace("{1}", ", ".join(arguments) or "…")


def with_examples(answer: str) -> str:
    """Return an answer with its examples, for the page that lists all answers."""
    return re.sub(r"\{[a-z]+\|([^}]*)\}", r"\1", answer)


def _texts(value: Any) -> Iterator[str]:
    """Return the texts in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _filled(answer: str, value: Any) -> str:
    """Return an answer with the value that was written, where that fits, else with its examples."""
    text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    is_count = text.isdecimal() and len(text) < 6 and int(text) > 0
    fillings = {
        "value": text if _SCALAR.fullmatch(text) else "",
        "number": text if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else "",
        "cron": next((item for item in _texts(value) if re.fullmatch(_CRON_TIMES, item)), ""),
        "less": str(int(text) - 1) if is_count else "",
    }
    return re.sub(r"\{(value|number|cron|less)\|([^}]*)\}", lambda match: fillings[match[1]] or match[2], answer)


def option_hint(key: str, value: str, options: Sequence[str]) -> str:
    """Return the message about a value that is not one of a few: what is meant by it, or the nearest; or nothing."""
    meant = value_answer(key, value)
    if meant in options:
        return f"{quoted(value)} is not allowed; write {meant}"
    near = typo_hint(value, options)
    return f"{quoted(value)} is not allowed{near}" if near else ""
