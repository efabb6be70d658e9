"""From what people write in Python to what the loop runs."""
