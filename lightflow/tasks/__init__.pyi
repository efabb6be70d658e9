from lightflow.tasks.http_body import http as http

__all__ = ["http"]
