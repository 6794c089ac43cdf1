"""As whom a command runs: users and groups by name or number, with everything that belongs to them."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Final, NamedTuple

SHELL: Final = "/bin/sh"  # what $SHELL says for another user, as cron has it


class UnknownAccount(LookupError):
    """The system knows no such user or group."""


class Identity(NamedTuple):
    """A user as the kernel takes it: ids and all groups."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str


def user_of(text: str) -> pwd.struct_passwd:
    """A user by name or number. Raises UnknownAccount."""
    try:
        return pwd.getpwnam(text)
    except KeyError:
        try:
            return pwd.getpwuid(int(text))
        except (KeyError, ValueError, OverflowError):
            raise UnknownAccount(f"unknown user {text!r}") from None


def group_of(text: str) -> grp.struct_group:
    """A group by name or number. Raises UnknownAccount."""
    try:
        return grp.getgrnam(text)
    except KeyError:
        try:
            return grp.getgrgid(int(text))
        except (KeyError, ValueError, OverflowError):
            raise UnknownAccount(f"unknown group {text!r}") from None


def is_another(user: str | None, group: str | None) -> bool:
    """Whether this is anybody else than this process. Raises UnknownAccount."""
    if user is not None and user_of(user).pw_uid != os.geteuid():
        return True
    return group is not None and group_of(group).gr_gid != os.getegid()


def identity_of(user: str | None, group: str | None) -> Identity | None:
    """What `user` and `group` of a task mean; None: nothing is to be switched. Raises UnknownAccount.

    The groups are those that the system's files list for the user, with the primary one. Asked anew each
    time, as cron does: a user may have been given another group meanwhile.
    """
    if (user is None and group is None) or (os.geteuid() != 0 and not is_another(user, group)):
        return None
    account = user_of(str(os.geteuid()) if user is None else user)
    gid = account.pw_gid if group is None else group_of(group).gr_gid
    groups = tuple(sorted({gid, *os.getgrouplist(account.pw_name, gid)}))
    return Identity(account.pw_uid, gid, groups, account.pw_name, account.pw_dir)


def home_variables(identity: Identity) -> dict[str, str]:
    """The variables that follow a user."""
    return {"HOME": identity.home, "USER": identity.name, "LOGNAME": identity.name, "SHELL": SHELL}
