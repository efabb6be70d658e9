from lightflow.tasks.http_body import http as http
from lightflow.tasks.mail_body import mail as mail
from lightflow.tasks.notify_body import notify as notify

__all__ = ["http", "mail", "notify"]
