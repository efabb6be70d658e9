"""The bridge to the engine: dags from workflow files, their execution, checkpoints, and what a terminal shows."""
