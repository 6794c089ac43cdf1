"""A machine of its own: a real systemd as process 1 in private namespaces, without a container engine.

    unshare (mount, pid, uts, ipc, net, cgroup)
      +- an overlay over this machine's files, so that nothing here is changed
      +- /proc /sys /run /dev /sys/fs/cgroup (cgroup2) of its own
      +- systemd --unit=drill.target, with a journal

It needs root. `systemctl` in it is run through nsenter, as an administrator would run it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.live import wait_until

SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")
ROOT = Path(__file__).parents[1]
PRIVATE = ("/root/", "/home/")  # where a service's user cannot look

BOOT = r"""
set -eu
root=$1; systemd=$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
mkdir "$root/upper" "$root/work" "$root/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/merged"
cd "$root/merged"
mount -t proc proc proc
mount --bind proc/sys proc/sys  # what is set there holds for the whole machine, this one included
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm dev/pts old-root
mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mkdir -p run/systemd/system run/log/journal
printf '[Unit]\nDescription=drill\nRequires=systemd-journald.service\nAfter=systemd-journald.service\n' \
    > run/systemd/system/drill.target
# Nothing of this machine's own services comes along: they would set its clock, its sysctls, its modules.
rm -rf etc/systemd/system usr/lib/systemd/system/*.wants lib/systemd/system/*.wants etc/machine-id
mkdir etc/systemd/system
printf '%032x\n' 6 > etc/machine-id
ip link set lo up 2>/dev/null || true
pivot_root . old-root
umount -l /old-root
exec env -i container=drill PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "$systemd" --system --unit=drill.target --log-target=journal --show-status=0
"""


SCRIPT = """#!/opt/jobrunner/bin/python
import sys
from jobrunner.cli import main
sys.exit(main())
"""


def why_not() -> str:
    """Why no machine can be booted here; "" when one can."""
    if os.geteuid() != 0:
        return "root is needed to boot a systemd in private namespaces"
    if _systemd() is None:
        return "systemd is not installed here (Debian: apt-get install systemd)"
    missing = [name for name in ("unshare", "nsenter", "systemctl", "mount") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} is missing here"
    if not any(_cgroup2_mounts()):
        return "no cgroup2 hierarchy is mounted here"
    tried = subprocess.run(["unshare", *NAMESPACES, "--fork", "true"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"no private namespaces here: {tried.stderr.strip()}"


def _systemd() -> str | None:
    return next((path for path in SYSTEMD if os.access(path, os.X_OK)), None)


def _cgroup2_mounts() -> Iterator[Path]:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            yield Path(place)


@dataclass(slots=True)
class Machine:
    """A booted systemd, and the ways into it."""

    process: subprocess.Popen[bytes]
    cgroup: Path
    console: Path
    pid: int = field(init=False)  # of its process 1, as seen from here

    def __post_init__(self) -> None:
        wait_until(lambda: bool(self._children()), lambda: f"unshare did not fork: {self.said()}")
        self.pid = self._children()[0]
        wait_until(self._is_up, lambda: f"systemd did not come up: {self.said()}")

    def _children(self) -> list[int]:
        try:
            text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except OSError:
            return []
        return [int(each) for each in text.split()]

    def _is_up(self) -> bool:
        assert self.process.poll() is None, f"systemd ended: {self.said()}"
        return self.run("systemctl", "is-active", "drill.target").stdout.strip() == "active"

    def said(self) -> str:
        return self.console.read_text(errors="replace")

    def path(self, inside: str) -> Path:
        """A file of the machine, as it is reached from here."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def run(self, *command: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine."""
        return subprocess.run(
            ["nsenter", "--target", str(self.pid), *(f"{each}" for each in NAMESPACES), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def do(self, *command: str, timeout: float = 60.0) -> str:
        """The same, and it has to go well; its answer."""
        done = self.run(*command, timeout=timeout)
        assert done.returncode == 0, (
            f"{command}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.journal()}"
        )
        return done.stdout

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.do("systemctl", "show", "--value", "--property", name, unit).strip()

    def install(self) -> None:
        """Install this very jobrunner as docs/service.md says, below /opt, and make its user."""
        python = self._python()
        self.do("mkdir", "-p", "/opt/source", "/opt/packages", "/opt/jobrunner/bin", "/etc/jobrunner")
        self.do("mount", "--bind", str(ROOT), "/opt/source")
        self.do("mount", "--bind", sysconfig.get_path("purelib"), "/opt/packages")
        place = f"/opt/jobrunner/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        self.write(f"{place}/installed.pth", "/opt/source\n/opt/packages\n")
        self.write("/opt/jobrunner/pyvenv.cfg", f"home = {os.path.dirname(python)}\n")
        self.do("ln", "-s", python, "/opt/jobrunner/bin/python")
        self.write("/opt/jobrunner/bin/jobrunner", SCRIPT, 0o755)
        self.do("useradd", "--system", "--home-dir", "/var/lib/jobrunner", "jobrunner")

    def _python(self) -> str:
        """The interpreter, where the service's user may execute it."""
        binary = os.path.realpath(sys.executable)
        if not binary.startswith(PRIVATE):
            return binary
        self.do("mkdir", "/opt/python")
        self.do("mount", "--bind", sys.base_prefix, "/opt/python")
        return f"/opt/python/{os.path.relpath(binary, os.path.realpath(sys.base_prefix))}"

    def jobrunner(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`sudo -u jobrunner jobrunner -c /etc/jobrunner/jobs.yaml ARGUMENTS`."""
        line = ["/opt/jobrunner/bin/jobrunner", "-c", "/etc/jobrunner/jobs.yaml", *arguments]
        return self.run("setpriv", "--reuid=jobrunner", "--regid=jobrunner", "--clear-groups", *line)

    def journal(self, *options: str) -> str:
        return self.run("journalctl", "--no-pager", "--output=short-monotonic", *options).stdout

    def outside(self, pid: int) -> int | None:
        """The pid from here of a process that has this one inside."""
        for path in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError):
                spaces = next(line for line in path.read_text().splitlines() if line.startswith("NSpid:"))
                if len(spaces.split()) > 2 and int(spaces.split()[-1]) == pid and self._is_mine(path.parent):
                    return int(path.parent.name)
        return None

    def _is_mine(self, process: Path) -> bool:
        return os.readlink(process / "ns/pid") == os.readlink(f"/proc/{self.pid}/ns/pid")

    def halt(self) -> None:
        """The end of process 1 is the end of everything in it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        wait_until(self._removed, lambda: f"{self.cgroup} is not empty")

    def _removed(self) -> bool:
        """Remove the groups that are empty, the innermost first."""
        for folder in sorted(self.cgroup.glob("**/"), key=lambda path: -len(path.parts)):
            with suppress(OSError):
                folder.rmdir()
        return not self.cgroup.exists()


@contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """A machine for the length of a block; `folder` is where its files are mounted, in its own namespace."""
    root = folder / "machine"
    root.mkdir()
    cgroup = next(_cgroup2_mounts()) / f"jobrunner-drill-{os.getpid()}-{folder.name[:40]}"
    cgroup.mkdir()
    script, console = folder / "boot.sh", folder / "console"
    script.write_text(BOOT)
    # The shell enters its cgroup before it is alone in the namespace of it: that cgroup is the root there.
    enter = f'echo $$ > {cgroup}/cgroup.procs && exec unshare "$@"'
    boot = ("sh", str(script), str(root), _systemd() or "")
    with console.open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", enter, "sh", *NAMESPACES, "--fork", "--kill-child", *boot],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    machine = None
    try:
        machine = Machine(process, cgroup, console)
        yield machine
    finally:
        if machine is not None:
            machine.halt()
        process.kill()
        process.wait()
