"""Values as they are stored and passed to tasks, parameters, and what must never be stored."""
