"""Values as they are stored and handed on, parameters, and what must never be stored."""
