"""Token buckets in Redis: all servers of one queue count together."""

from __future__ import annotations

import logging
import time

from backend.jobs import QueueUnavailable
from backend.queue_store import Store, impatient
from backend.rates import MemoryBuckets, Rate, Verb

PATIENCE = 0.25  # seconds that a request waits for the count; a Redis that hangs must not hold /setup up
PAUSE = 5.0  # seconds in which this process counts alone after Redis did not answer
log = logging.getLogger(__name__)

# verb, name, tokens a ms, burst, floor. Answers with the ms until there is a token. A bucket that is full
# again vanishes by itself. Where the clock has been set back, time goes on from there.
ASK = """
local key = KEYS[1] .. ':rate:' .. ARGV[2]
local per_ms, burst, floor = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local kept = redis.call('HMGET', key, 'level', 'at')
local level = tonumber(kept[1] or burst)
level = math.min(burst, level + math.max(0, now - tonumber(kept[2] or now)) * per_ms)
local wait = math.max(0, math.ceil((1 - level) / per_ms))
if ARGV[1] == 'charge' or (ARGV[1] == 'take' and wait == 0) then level = math.max(floor, level - 1) end
if kept[1] or level < burst then
  redis.call('HSET', key, 'level', string.format('%.6f', level), 'at', now)
  redis.call('PEXPIRE', key, math.max(1, math.ceil((burst - level) / per_ms)))
end
return wait
"""


class RedisBuckets:
    """Buckets that all servers share; while Redis is away, each server counts for itself.

    Args:
        store: of the queue; its Redis is asked over connections of their own, with less patience.
    """

    def __init__(self, store: Store) -> None:
        self._store = Store(impatient(store.redis, PATIENCE), store.namespace)
        self._alone = MemoryBuckets()
        self._alone_until = 0.0  # on the monotonic clock

    def ask(self, verb: Verb, name: str, rate: Rate) -> float:
        """As `Buckets` says."""
        if time.monotonic() < self._alone_until:
            return self._alone.ask(verb, name, rate)
        try:
            wait = self._store.run(ASK, verb, name, rate.per_second / 1000, rate.burst, rate.floor)
        except QueueUnavailable as error:
            self._alone_until = time.monotonic() + PAUSE
            log.warning("requests are counted by this server alone: %s", error)
            return self._alone.ask(verb, name, rate)
        return float(wait) / 1000
