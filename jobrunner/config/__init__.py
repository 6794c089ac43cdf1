"""From jobs.yaml to a plan, or to every problem of the file. Importing this costs nothing: its modules do.

    reading -> load (nodes) -> values (interpolated) -> validate (schema) -> build -> plan.Plan

`compile` is the whole way in this process, `child` the same in a process of its own; `discover` finds
the file, and its storage, without any of it.
"""
