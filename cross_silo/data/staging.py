"""A directory that appears whole or not at all: written beside its place under a lock, renamed at the end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from typing import Iterator

from cross_silo.errors import UserError


@contextlib.contextmanager
def staged_directory(directory: str, overwrite: bool) -> Iterator[str]:
    """Yield an empty directory beside ``directory`` that takes its place when the block ends without an error.

    What an interrupted run has left is cleared by the next. Without ``overwrite`` an existing ``directory``
    must be empty; with it the old one stays until the new one is complete.

    Raises:
        UserError: ``directory`` holds something, or another process is writing it.
    """
    directory = os.path.abspath(directory)
    parent, name = os.path.split(directory)
    partial = os.path.join(parent, f".{name}.partial")
    replaced = os.path.join(parent, f".{name}.replaced")
    os.makedirs(partial, exist_ok=True)
    lock = os.open(partial, os.O_RDONLY)
    try:
        _lock(lock, partial, directory)
        try:
            _recover(directory, replaced)
            if os.path.isdir(directory) and os.listdir(directory) and not overwrite:
                raise UserError(f"{directory}: exists and is not empty; give --overwrite to replace it")
            _clear(partial)
            yield partial
            if os.path.isdir(directory):
                os.rename(directory, replaced)
            os.rename(partial, directory)
            sync_path(parent)
            shutil.rmtree(replaced, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # where the block has failed; else it is gone already
    finally:
        os.close(lock)


def sync_path(path: str) -> None:
    """Wait until a file's bytes, or a directory's names, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock(lock: int, partial: str, directory: str) -> None:
    """Lock the open directory; the kernel frees it when the process ends, however it ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = os.fstat(lock).st_ino == os.stat(partial).st_ino
    except OSError:
        mine = False
    if not mine:
        raise UserError(f"{directory}: another process is writing it; wait until that one has ended")


def _recover(directory: str, replaced: str) -> None:
    """Put back what a run that ended between the two renames has moved away."""
    if os.path.isdir(replaced) and not os.path.isdir(directory):
        os.rename(replaced, directory)
    shutil.rmtree(replaced, ignore_errors=True)


def _clear(directory: str) -> None:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.remove(entry.path)
