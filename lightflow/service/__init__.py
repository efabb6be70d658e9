"""The use cases, as functions. Command line, dashboard and schedules call these, never the engine.

`workflows` looks at files, `running` executes, `inspecting` reads the state file. They print nothing.
"""
