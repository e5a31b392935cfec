"""Progress of long work: a bar with rate and ETA on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Self

from tqdm import tqdm

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal


class Progress:
    """Counts steps of one task; use as a context manager and call `advance` once per step.

    short: it is mostly over at once, and then nothing needs to be said of it.
    """

    def __init__(
        self,
        title: str,
        total: int,
        *,
        done: int = 0,
        shown: bool = True,
        unit: str = "step",
        short: bool = False,
    ) -> None:
        self.title, self.total, self.done, self.unit = title, total, done, unit
        self._short = short
        self._start = self.done
        self._shown = shown
        self._begun = self._said = time.monotonic()
        self._bar = None
        self._values: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._shown and sys.stderr.isatty():
            self._bar = tqdm(
                total=self.total,
                initial=self.done,
                desc=self.title,
                unit=self.unit,
                mininterval=0.5,
                delay=PLAIN_SECONDS if self._short else 0,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def rate(self) -> float:
        """Steps per second since this process started."""
        return (self.done - self._start) / max(time.monotonic() - self._begun, 1e-9)

    def show(self, **values: float) -> None:
        """Values (e.g. loss=0.3) to print beside the rate from now on."""
        self._values |= values

    def expect(self, total: int) -> None:
        """Correct how many steps there will be in all."""
        self.total = total
        if self._bar is not None:
            self._bar.total = total

    def advance(self, count: int = 1) -> None:
        """Record `count` more steps."""
        self.done += count
        if self._bar is not None:
            shown = {name: f"{value:.4g}" for name, value in self._values.items()}
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(count)
        elif self._shown and self._due():
            self._said = time.monotonic()
            shown = "".join(f", {name} {value:.4g}" for name, value in self._values.items())
            remaining = (self.total - self.done) / self.rate
            print(
                f"{self.title}: {self.done}/{self.total}, {self.rate:.3g} {self.unit}s/s, "
                f"{remaining:.0f} s left{shown}",
                file=sys.stderr,
                flush=True,
            )

    def _due(self) -> bool:
        last = self.done >= self.total and not (self._short and self._said == self._begun)
        return last or time.monotonic() - self._said >= PLAIN_SECONDS
