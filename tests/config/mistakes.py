"""The mistakes that people make most in a jobs.yaml, by name; each has its answer under snapshots/."""

from __future__ import annotations

from typing import Final

BOMB: Final = """\
x-a: &a [x, x, x, x, x, x, x, x, x]
x-b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]
x-c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]
x-d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]
x-e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]
x-f: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e]
x-g: &g [*f, *f, *f, *f, *f, *f, *f, *f, *f]
x-h: &h [*g, *g, *g, *g, *g, *g, *g, *g, *g]
x-i: &i [*h, *h, *h, *h, *h, *h, *h, *h, *h]
tasks: {a: {command: *i}}
"""

MISTAKES: Final[dict[str, str]] = {
    # ---- what YAML stumbles over
    "unquoted-star": "tasks:\n  a:\n    schedule: */5 * * * *\n    command: date\n",
    "unquoted-stars": "tasks:\n  a:\n    schedule: * * * * *   # each minute\n    command: date\n",
    "unquoted-star-in-braces": "tasks:\n  a: {schedule: */5 * * * *, command: date}\n",
    "unquoted-daily": "tasks:\n  a:\n    schedule: @daily\n    command: date\n",
    "unquoted-percent": "tasks:\n  a:\n    command: %s\n",
    "unquoted-backtick": "tasks:\n  a:\n    command: `date`\n",
    "unquoted-ampersand": "tasks:\n  a:\n    command: & date\n",
    "unquoted-bang": "tasks:\n  a:\n    command: ! test -f x\n",
    "unquoted-test": "tasks:\n  a:\n    command: [ -f x ] && date\n",
    "unquoted-redirection": "tasks:\n  a:\n    command: > /dev/null date\n",
    "text-after-quotes": 'tasks:\n  a:\n    command: "echo" hi\n',
    "colon-in-value": "tasks:\n  a:\n    command: echo a: b: c\n",
    "tab": "tasks:\n\ta:\n\t\tcommand: date\n",
    "tab-after-blanks": "tasks:\n  a:\n  \tcommand: date\n",
    "indented-too-far": "tasks:\n  a:\n    command: date\n      schedule: daily\n",
    "indented-too-little": "tasks:\n  a:\n    command: date\n   schedule: daily\n",
    "template": "tasks:\n  a:\n    command: date\n    cwd: {{ folder }}\n",
    "template-and-text": "tasks:\n  a:\n    command: {{ python }} -V\n",
    "variable-in-braces": "tasks:\n  a: {command: date, env: {A: ${HOME}, B: x}}\n",
    "variable-in-list": "tasks:\n  a: {command: date, env_file: [conf-${NAME}.env, b]}\n",
    "unterminated-quote": 'tasks:\n  a:\n    command: "echo hi\n    schedule: daily\n',
    "unterminated-bracket": "tasks:\n  a:\n    command: [cp, x\n    schedule: daily\n",
    "unknown-escape": 'tasks:\n  a:\n    command: "grep \\d x"\n',
    "missing-space": "tasks:\n  a:\n    command:date\n    schedule: daily\n",
    "missing-colon": "tasks:\n  a:\n    schedule: daily\n    command date\n    timeout: 3s\n",
    "dash-on-key-line": "tasks:\n  a:\n    command: date\n    on_failure: - b\n",
    "unknown-anchor": "tasks:\n  a:\n    <<: *common\n    command: date\n",
    "two-documents": "tasks: {}\n---\ntasks: {}\n",
    "tag": "tasks:\n  a:\n    command: !!python/object/apply:os.system [date]\n",
    "control-character": "tasks:\n  a:\n    command: echo \x1b[31mred\n",
    "nul": "tasks:\n  a:\n    command: da\0te\n",
    "bomb": BOMB,
    "alias-loop": "tasks: &a\n  b: {command: date, kwargs: {x: *a}}\n",
    "too-deep": "tasks: {a: {command: date, args: " + "[" * 120 + "]" * 120 + "}}\n",
    "empty": "# nothing here yet\n",
    "no-tasks": "timezone: UTC\n",
    "tasks-of-nothing": "timezone: UTC\ntasks:\n",
    "list-at-the-top": "- name: a\n  command: date\n",
    "list-of-tasks": "tasks:\n  - name: a\n    command: date\n",
    "task-of-text": "tasks:\n  a: date\n",
    # ---- keys
    "duplicate-key": "tasks:\n  a:\n    command: date\n    timeout: 1h\n    command: ls\n",
    "duplicate-task": "tasks:\n  a: {command: date}\n  a: {command: ls}\n",
    "unknown-key": "tasks:\n  a:\n    comand: date\n    shedule: daily\n",
    "unknown-key-at-the-top": "task:\n  a: {command: date}\n",
    "neither-command-nor-call": "tasks:\n  a:\n    schedule: daily\n",
    "command-and-call": "tasks:\n  a:\n    command: date\n    call: shop:resize\n",
    "key-of-commands": "tasks:\n  a:\n    call: shop:resize\n    shell: bash\n    stdin: x\n",
    "defaults-command": "defaults: {command: date, timeot: 3s}\ntasks: {a: {command: date}}\n",
    "pipelines": (
        "tasks:\n  extract: {command: date}\n  mail: {command: date}\n"
        "pipelines:\n"
        "  extract:\n    steps: [mail]\n"
        "  loop: {steps: [loop2]}\n"
        "  loop2:\n    steps: [loop, nobody]\n"
        "  none: {stpes: []}\n"
        "  steps:\n    steps:\n"
        "      - {tsk: mail}\n"
        "      - {task: mail, timeout: x}\n"
        "  shapes:\n    steps:\n"
        "      - {task: mail, parallel: [mail]}\n"
        "      - parallel: [mail, [mail, mali]]\n        retries: 2\n"
        "      - map: {task: mail}\n"
        "      - {task: loop, timeout: 4}\n"
        "    on_failure: page\n"
        "  first: {steps: [{map: {task: mail, over: input}}]}\n"
    ),
    "unique-and-rate": (
        "tasks:\n  a: {command: date, rate_limit: fast, unique: {key: a, on_conflict: maybe}}\n"
        "  b: {command: date, rate_limit: 0/1m, unique: {on_conflict: replace}}\n"
        "  c: {command: date, rate_limit: 5/parsec}\n"
    ),
    # ---- values
    "leading-zero": "tasks:\n  a:\n    command: date\n    retries: 010\n",
    "unknown-unit": "tasks:\n  a:\n    command: date\n    timeout: 5 parsecs\n",
    "clock-time": "tasks:\n  a:\n    command: date\n    schedule: 12:30\n    timeout: 1:30\n",
    "yes": "tasks:\n  a:\n    command: date\n    enabled: yes\n    store_result: off\n",
    "negative": "tasks:\n  a:\n    command: date\n    retries: -1\n    timeout: -5s\n",
    "wrong-choice": "tasks:\n  a:\n    command: date\n    overlap: skipp\n    on_interrupt: never\n",
    "umask": "tasks:\n  a:\n    command: date\n    umask: 0o22\n  b: {command: date, umask: 8}\n",
    "limits": "tasks:\n  a:\n    command: date\n    limits: {cpu: 500ms, nofiles: 10, core: none}\n",
    "user-of-a-call": "tasks:\n  a:\n    call: shop:resize\n    user: root\n    limits: {core: 0}\n",
    "dotted-call": "tasks:\n  a:\n    call: shop.images.resize\n",
    "bad-name": "tasks:\n  my task: {command: date}\n",
    "bad-percentage": "tasks:\n  a:\n    command: date\n    retries: {max: 3, jitter: 10}\n",
    "variable-unset": "tasks:\n  a:\n    command: date\n    cwd: ${NOWHERE}/x\n    timeout: ${T:?how long}\n",
    "number-for-env": "tasks:\n  a:\n    command: date\n    env: {A: [1], B: , 1C: x}\n",
    # ---- schedules
    "six-fields": 'tasks:\n  a:\n    command: date\n    schedule: "0 */5 * * * *"\n',
    "never": 'tasks:\n  a:\n    command: date\n    schedule: "30 2 31 2 *"\n',
    "bad-field": 'tasks:\n  a:\n    command: date\n    schedule: "61 2 * * *"\n',
    "unknown-timezone": "timezone: Europe/Pari\ntasks:\n  a:\n    command: date\n    timezone: Mars\n",
    # ---- names
    "unknown-task": "tasks:\n  a:\n    command: date\n    on_failure: [page-op]\n  page-ops: {command: ls}\n",
    "unknown-pool": "pools:\n  reports: {slots: 2}\ntasks:\n  a:\n    call: shop:resize\n    pool: report\n",
    "pool-kind": "tasks:\n  a: {call: shop:resize, pool: commands}\n  b: {command: date, pool: default}\n",
    "pool-cannot-keep": (
        "pools: {io: {kind: thread}}\ndefaults: {env: {A: 1}}\n"
        "tasks:\n  a: {call: shop:resize, pool: io, cwd: /tmp, env: {B: 2}}\n"
    ),
    "worker-keys-of-commands": (
        "pools: {shells: {kind: command, max_calls: 5, on_startup: 'a:b'}, io: {max_calls: 0}}\ntasks: {}\n"
    ),
    "soft-timeout": (
        "pools: {io: {kind: thread}, web: {kind: async}}\ndefaults: {timeout: 30s}\n"
        "tasks:\n  a: {call: shop:resize, pool: io}\n  b: {call: shop:resize, pool: web}\n"
    ),
    "unknown-lock": "locks: {database: {slots: 1}}\ntasks:\n  a:\n    command: date\n    lock: databse\n",
    "unknown-backend": "backend: oracle://var/lib/jobs\ntasks: {}\n",
    "backend-path": "backend: /var/lib/jobs.db\ntasks: {}\n",
    # ---- files
    "missing-env-file": "env_file: [.env]\ntasks: {a: {command: date, env_file: [other.env, -maybe.env]}}\n",
    "missing-include": "include: [more.yaml, jobs.d/*.yaml]\ntasks: {}\n",
    "include-itself": "include: [jobs.yaml]\ntasks: {}\n",
    # ---- doubts
    "pipe-without-pipefail": "tasks:\n  a:\n    command: pg_dump shop | zstd > /backup/shop.zst\n",
    "comment-in-command": "tasks:\n  a:\n    command: curl example.com #fragment\n",
    "uneven-step": 'tasks:\n  a:\n    command: date\n    schedule: "*/7 * * * *"\n',
    "unused-lock": "locks: {database: {slots: 1}}\ntasks: {a: {command: date}}\n",
    "same-schedule-twice": 'tasks:\n  a:\n    command: date\n    schedule: [daily, "0 0 * * *"]\n',
    "many": "tasks:\n" + "".join(f"  a{i}: {{command: date, tiemout: {i}}}\n" for i in range(25)),
}
