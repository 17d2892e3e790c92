"""What a run shows to and hears from its user: a progress bar, and Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_REFRESH = 0.1  # seconds between two updates of the bar
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interrupts:
    """Ctrl-C and SIGTERM during a run: the first asks it to stop after the step at hand, a second stops at once.

    A context manager; the handlers that were there come back at the end. Only a process's main thread can have handlers:
    elsewhere nothing changes.

    Attributes
    ----------
    asked : what asked for a stop, "Ctrl-C" or "SIGTERM"; empty while nothing did
    """

    def __init__(self) -> None:
        self.asked = ""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _NAMES:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = _NAMES[signal.Signals(number)]


class ProgressBar:
    """How far a run is, its rate and the time left, on the terminal; silent where there is none.

    Parameters
    ----------
    wanted : False shows nothing
    title : what stands before the bar
    console : where to draw; the standard error stream by default, so that output can be piped
    """

    def __init__(self, wanted: bool, title: str, console: Console | None = None):
        console = console or Console(stderr=True)
        self._bar: Progress | None = None
        if wanted and console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn("{task.percentage:5.1f}%"),
                TextColumn("{task.fields[steps]} steps, {task.fields[rate]} steps/s, left"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console, auto_refresh=False, transient=False)
            self._task = self._bar.add_task(title, total=1.0, steps=0, rate="-")
        self._shown = time.perf_counter()
        self._steps = 0

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, fraction: float, steps: int, last: bool = False) -> None:
        """Tell where the run is; drawn about ten times a second, and where it is the `last` word."""
        if self._bar is None:
            return
        now = time.perf_counter()
        if now - self._shown < _REFRESH and not last:
            return
        # The rate of late: the first steps load code.
        rate = (steps - self._steps) / max(now - self._shown, 1e-9)
        self._shown, self._steps = now, steps
        shown = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
        self._bar.update(self._task, completed=fraction, steps=steps, rate=shown, refresh=True)
