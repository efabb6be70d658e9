"""SQL for the task type `sql`: texts, values, and the four databases."""
