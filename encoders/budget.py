"""A limit on the processor time of a training, and how many steps fit into it."""

import time

_PROBED = 30  # steps that are timed
_KEPT = 0.15  # of the limit, for validation and for steps slower than those timed


class Budget:
    """Steps that a training may take: all that are asked for, or as many as a limit of processor time allows.

    How many fit is found out from the first steps, so that the learning rate can fall within them. Should the steps
    become slower, the training ends early all the same.
    """

    def __init__(self, steps: int, seconds: float | None, spent: float = 0.0) -> None:
        """Set the limit.

        Args:
            steps: asked for, or found to fit when the training began.
            seconds: of processor time, user and system, that the whole training may take; None for no limit.
            spent: seconds already spent by a run that is resumed.
        """
        self.steps, self.seconds, self._before = steps, seconds, spent
        self._begun = time.process_time()
        self._taken = 0

    @property
    def spent(self) -> float:
        """Processor seconds so far, over all starts."""
        return self._before + time.process_time() - self._begun

    def step_taken(self) -> None:
        """Count a step; once enough are counted, cut the steps to those that fit."""
        self._taken += 1
        if self.seconds is not None and not self._before and self._taken == _PROBED:
            fitting = int((1 - _KEPT) * self.seconds * _PROBED / max(self.spent, 1e-9))
            self.steps = min(self.steps, max(fitting, _PROBED))

    @property
    def over(self) -> bool:
        """Whether the time is spent."""
        return self.seconds is not None and self.spent >= (1 - _KEPT / 3) * self.seconds
