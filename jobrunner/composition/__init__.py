"""Pipelines: a tree of steps (`spec`) becomes runs with edges (`weave`), a claim a call (`inputs`).

    Pipeline(steps=Steps(steps=(extract, Parallel(members=(load_eu, load_us)), render)))

    report  (root, joins 1 2 3)
    1       extract
    2       (parallel)   joins 2.1 2.2
    2.1     load-eu      after 1
    2.2     load-us      after 1
    3       render       after 2

YAML and Python build the same tree. Everything here is pure: values in, values out.
"""

from .inputs import Composed, called_for, cause_of, compose, grow, unfold
from .spec import MAP_POOL, Map, Nested, Node, Parallel, Pipeline, Step, Steps, from_text, outline, to_text
from .weave import ANONYMOUS, MAP, MOST_MEMBERS, WHOLE, Entries, begin, called, retried

__all__ = [
    "ANONYMOUS",
    "MAP",
    "MAP_POOL",
    "MOST_MEMBERS",
    "WHOLE",
    "Composed",
    "Entries",
    "Map",
    "Nested",
    "Node",
    "Parallel",
    "Pipeline",
    "Step",
    "Steps",
    "begin",
    "called",
    "called_for",
    "cause_of",
    "compose",
    "from_text",
    "grow",
    "outline",
    "retried",
    "to_text",
    "unfold",
]
