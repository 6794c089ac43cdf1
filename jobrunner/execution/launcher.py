"""The launcher: becomes the user, takes the limits and the folder, and then becomes the command.

A program of its own, run as `python -I -S launcher.py SPECIFICATION STATUS`: switching users between fork and
exec would make `Popen` fork the whole supervisor. It imports next to nothing, for its start is paid by every
command that needs it. When it fails it writes why to STATUS, a pipe that exec closes: so no exit code of the
launcher is ever taken for one of the command.
"""

import _signal  # type: ignore[import-not-found]  # `signal` brings `enum`, which takes as long as all the rest
import marshal
import posix
import resource
import sys

FAILED = 127
CPU_GRACE = 5  # seconds from SIGXCPU to SIGKILL
NO_MEMORY = marshal.dumps(("", 12, "no memory"))  # made before there is none


def become(uid: int, gid: int, groups: list[int]) -> None:
    """The user, whole: groups first, while that is still allowed; then see that it is so."""
    posix.setgroups(groups)
    posix.setresgid(gid, gid, gid)
    posix.setresuid(uid, uid, uid)
    is_switched = (
        posix.getresuid() == (uid, uid, uid)
        and posix.getresgid() == (gid, gid, gid)
        and set(posix.getgroups()) == set(groups)
    )
    if not is_switched or (uid != 0 and can_return()):
        raise RuntimeError("the system did not switch it entirely")


def can_return() -> bool:
    """Whether this process could become root again."""
    try:
        posix.setresuid(0, 0, 0)
    except OSError:
        return False
    return True


def limit(number: int, value: int) -> None:
    """Soft and hard; of processor time the hard one comes later, or the kernel would send KILL at once."""
    hard = value
    if number == resource.RLIMIT_CPU:
        most = resource.getrlimit(number)[1]
        later = value + CPU_GRACE
        hard = later if most == resource.RLIM_INFINITY else max(value, min(later, most))
    resource.setrlimit(number, (value, hard))


def execute(argv: list[bytes], environment: dict[bytes, bytes]) -> OSError:
    """Become the program; when no candidate can be run, the error that says most."""
    found: OSError = FileNotFoundError(2, "No such file or directory")
    folders = [b""] if b"/" in argv[0] else environment.get(b"PATH", b"/bin:/usr/bin").split(b":")
    for folder in folders:
        try:
            posix.execve(folder + b"/" + argv[0] if folder else argv[0], argv, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            found = error
        except OSError as error:
            return error
    return found


def prepare(wanted: dict[str, object]) -> None:
    """Everything but the program itself. `doing` says what is under way, for the words of an error."""
    limits: list[tuple[str, int, int]] = wanted["limits"]  # type: ignore[assignment]
    wanted["doing"] = "nice"
    if wanted["nice"] is not None:
        posix.setpriority(posix.PRIO_PROCESS, 0, wanted["nice"])  # type: ignore[arg-type]
    if wanted["umask"] is not None:
        posix.umask(wanted["umask"])  # type: ignore[arg-type]
    for name, number, value in limits:
        wanted["doing"] = name
        if number != resource.RLIMIT_AS:
            limit(number, value)
    wanted["doing"] = "user"
    if wanted["identity"] is not None:
        become(*wanted["identity"])  # type: ignore[misc]
    wanted["doing"] = "cwd"
    posix.chdir(wanted["cwd"])  # type: ignore[arg-type]
    for name, number, value in limits:  # address space last: all before it needs some
        wanted["doing"] = name
        if number == resource.RLIMIT_AS:
            limit(number, value)
    wanted["doing"] = ""


def main() -> None:
    """Ends by becoming the command, or with FAILED and a reason."""
    specification, status = int(sys.argv[1]), int(sys.argv[2])
    posix.set_inheritable(status, False)
    with open(specification, "rb") as file:
        wanted = marshal.load(file)  # noqa: S302 - written by our own supervisor into memory of its own
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT):
        _signal.signal(number, _signal.SIG_DFL)
    try:
        try:
            prepare(wanted)
            error: Exception = execute(wanted["argv"], wanted["environment"])
        except (OSError, ValueError, RuntimeError) as failure:
            error = failure
        reason = marshal.dumps((wanted["doing"], getattr(error, "errno", None) or 0, str(error)))
    except MemoryError:
        reason = NO_MEMORY
    posix.write(status, reason)
    posix._exit(FAILED)


if __name__ == "__main__":
    main()
