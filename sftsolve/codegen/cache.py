"""Generated modules on disk: private to the user, shared by all processes, named by what they contain.

The name is a hash of the text (which holds the action, the order and every role), of the versions that compile it and of
the processor, so a file never changes once it is written and nobody has to lock anything: processes that race write the same
bytes under temporary names and rename them.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import pickle
import stat
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import llvmlite.binding
import numba

from sftsolve.errors import FileError


def cache_folder() -> Path:
    """The user's folder of generated modules: ``SFTSOLVE_CACHE``, else sftsolve/ in the platform's cache folder.

    Raises
    ------
    FileError : the folder cannot be made, or belongs to or is writable by somebody else
    """
    chosen = os.environ.get("SFTSOLVE_CACHE")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sftsolve"
    folder = base / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
    except OSError as error:
        raise FileError(
            "the folder for compiled kernels cannot be made",
            given=error,
            remedy="set SFTSOLVE_CACHE to a folder you can write to",
        ) from None
    foreign = hasattr(os, "getuid") and found.st_uid != os.getuid()
    if foreign or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FileError(
            "the folder for compiled kernels is not private",
            expected="a folder of yours that nobody else can write to",
            given=folder,
            remedy=f"chmod go-w {folder}, or set SFTSOLVE_CACHE to another folder",
        )
    return folder


def digest(text: str) -> str:
    """Name of the module that holds `text` on this machine and with these versions."""
    parts = (text, numba.__version__, llvmlite.binding.get_host_cpu_name(), f"{sys.version_info[:2]}")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


@lru_cache(maxsize=256)
def load(text: str) -> ModuleType:
    """The module with this text: from memory, from disk, or written now."""
    name = f"sft_{digest(text)}"
    path = cache_folder() / f"{name}.py"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write(path, text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Numba looks a function's module up by name
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=1)
def _program() -> str:
    """A hash of all files that have a say in what is generated."""
    package = Path(__file__).resolve().parents[1]
    files = [path for room in (".", "codegen", "sources", "friction") for path in sorted((package / room).glob("*.[pj]*"))]
    total = hashlib.sha256()
    for path in files:
        total.update(path.read_bytes())
    return total.hexdigest()


_program()  # now: files that change while this process runs are not those that it runs


def _place(key: str) -> Path:
    return cache_folder() / f"plan_{digest(_program() + key)}"


def keep(key: str, found: object) -> None:
    """Keep what was derived from `key`, a text that tells all of it, for other processes; what cannot be written is not kept."""
    try:
        write(_place(key), base64.b64encode(pickle.dumps(found)).decode())
    except (OSError, FileError):
        pass  # then others derive it themselves


def recall(key: str) -> object | None:
    """What was kept under a key by this version of the program; None where there is nothing, or nothing that can be read.

    The folder is private to the user, who runs the modules in it too.
    """
    try:
        return pickle.loads(base64.b64decode(_place(key).read_bytes()))  # type: ignore[no-any-return]
    except Exception:  # whatever a file that was cut short makes of itself
        return None


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise FileError(
            "a generated kernel cannot be written", given=error, remedy="free some disk space, or set SFTSOLVE_CACHE"
        ) from None
