"""The Python API: tasks by decorator or by name, their runs, and pipelines. Importing this costs nothing.

JobRunner (runner) -> Task (task) -> RunHandle (handle)
     |                  `-> Step, Chain, Group, Chord (pipeline)
     |-> storage, opened at the first call (opening)
     `-> Inline (inline): executes in the caller, for immediate mode and tests
"""
