"""The loop, and what it asks and tells while a run goes on."""
