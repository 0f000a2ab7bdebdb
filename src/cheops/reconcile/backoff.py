"""How long to wait before something is tried again: longer each time, and never for all at the same moment. Pure.

Half of it is fixed and half is drawn, as in "equal jitter" (Brooker, Exponential Backoff and Jitter, 2015).
"""

FIRST_SECONDS = 0.25
LONGEST_SECONDS = 30.0


def pause(attempts: int, drawn: float) -> float:
    """Seconds until the next attempt, after this many; `drawn` is from 0 to 1."""
    whole: float = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempts, 20))
    return whole * (0.5 + 0.5 * drawn)


def soonest(attempts: int) -> float:
    """Seconds before which nothing is tried again, whatever else happens."""
    return pause(attempts, 0.0) if attempts else 0.0
