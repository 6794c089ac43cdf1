"""A crontab becomes a jobs.yaml that does the same, line by line, and is compared with cron over a year.

parse (lines as cron reads them) -> translate (tasks; `names`, `lift`) -> write (text) -> equality
"""
