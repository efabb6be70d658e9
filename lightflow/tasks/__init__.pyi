from lightflow.tasks.bodies import connection as connection
from lightflow.tasks.docker_body import docker as docker
from lightflow.tasks.file_source import included_file as included_file
from lightflow.tasks.http_body import http as http
from lightflow.tasks.lambda_body import aws_lambda as aws_lambda
from lightflow.tasks.mail_body import mail as mail
from lightflow.tasks.notify_body import notify as notify
from lightflow.tasks.python_body import python as python
from lightflow.tasks.shell_body import shell as shell
from lightflow.tasks.sql_body import sql as sql
from lightflow.tasks.wait_body import wait as wait

__all__ = [
    "aws_lambda",
    "connection",
    "docker",
    "http",
    "included_file",
    "mail",
    "notify",
    "python",
    "shell",
    "sql",
    "wait",
]
