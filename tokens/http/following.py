"""Follows another server's feed of ended sessions, for a guard that reads no database."""

import json
import logging
from base64 import b64encode
from functools import lru_cache
from http.client import HTTPException
from threading import Event, Lock, Thread
from time import monotonic, sleep
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ..conf import conf
from ..jose.download import TIMEOUT, download

logger = logging.getLogger(__name__)

RETRY = 1
"""Seconds between two tries while the feed is out of reach."""

IDLE = 60
"""Seconds without a request after which the feed is no longer read, until the next request."""

FEED_LENGTH = 8 * 1024 * 1024
"""Bytes of one answer at most."""

MAX_ENDED = 200_000
"""The most sessions to remember, some 30 MB. A feed with more counts as out of reach."""


class FeedUnreachable(Exception):
    """The feed can't be read, so whether the session has ended is unknown."""


class Follower:
    """What one process knows of the feed. A thread reads it, so only the first request waits."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        self._headers = {"Authorization": "Basic " + b64encode(credentials.encode()).decode()}
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self._ended: dict[str, float] = {}
        self._after = self._tag = ""
        self._interval = float(RETRY)
        self._asked = self._fetched = float("-inf")
        self._failing = False
        self._lock = Lock()
        self._thread: Thread | None = None
        self._tried = Event()

    def has_ended(self, sid: str) -> bool:
        """Return whether the session has ended, as far as the feed says. Raises FeedUnreachable."""
        self._asked = monotonic()
        self._start()
        self._tried.wait(TIMEOUT)
        if sid in self._ended:
            return True
        if conf.ended_max_age is not None and monotonic() - self._fetched > conf.ended_max_age.total_seconds():
            raise FeedUnreachable
        return False

    def _start(self) -> None:
        """Start the thread if it isn't running. A forked process inherits everything but the thread."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._tried = Event()
                self._thread = Thread(target=self._follow, args=(self._tried,), name="ended sessions", daemon=True)
                self._thread.start()

    def _follow(self, tried: Event) -> None:
        while monotonic() - self._asked < IDLE:
            pause = self._poll()
            tried.set()
            sleep(pause)

    def _poll(self) -> float:
        """Ask once; return after how many seconds to ask again."""
        now = monotonic()
        try:
            newly_ended = self._ask(now)
        except (HTTPException, OSError, ValueError, RecursionError) as error:
            if not self._failing:
                logger.warning("The feed of ended sessions %s can't be read: %r", self._url, error)
            self._failing = True
            return RETRY
        self._ended = {sid: until for sid, until in self._ended.items() if until > now} | newly_ended
        self._fetched, self._failing = now, False
        return self._interval

    def _ask(self, now: float) -> dict[str, float]:
        """Return the sessions that the feed lists now, each with the time until which to remember it."""
        url = f"{self._url}?after={quote(self._after)}" if self._after else self._url
        headers = {**self._headers, "If-None-Match": self._tag} if self._tag else self._headers
        try:
            body, answered = download(url, FEED_LENGTH, headers)
        except HTTPError as error:
            error.close()
            if error.code == 304:
                return {}
            if error.code in (400, 410):
                self._after = self._tag = ""
            raise
        match json.loads(body):
            case {"ended": list(ended), "next": str(after), "interval": int() | float() as interval}:
                pass
            case _:
                raise ValueError("it is not a feed of ended sessions")
        until = now + (conf.access_token_lifetime + conf.leeway).total_seconds()
        newly_ended = {str(one["sid"]): until for one in ended if isinstance(one, dict) and "sid" in one}
        if len(self._ended.keys() | newly_ended.keys()) > MAX_ENDED:
            raise ValueError(f"it lists more than {MAX_ENDED} sessions")
        self._after, self._tag = after, answered.get("ETag", "")
        self._interval = min(max(float(interval), RETRY), 60.0)
        return newly_ended


@lru_cache(maxsize=4)
def follower(url: str) -> Follower:
    return Follower(url)
