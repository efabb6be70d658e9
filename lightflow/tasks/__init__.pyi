from lightflow.tasks.http_body import http as http
from lightflow.tasks.mail_body import mail as mail
from lightflow.tasks.notify_body import notify as notify
from lightflow.tasks.sql_body import sql as sql

__all__ = ["http", "mail", "notify", "sql"]
