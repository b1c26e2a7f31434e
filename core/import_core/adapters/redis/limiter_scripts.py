"""The limiter's Lua: each script is one step that no other worker's call can come between.

The clock is the server's, in microseconds, so that the workers' clocks don't matter.
"""

from __future__ import annotations

# A replica that is promoted, and a server that starts again, gets a new replication id: its last grants may be
# lost, although the marker was copied. Asked inside the script, so that no connection can hold an old answer.
_HISTORY = """
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
"""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

# Points that are left by the provider's last word, less those of calls whose answer is still to come. What died
# on its way counts for a minute.
_POINTS = """
local function points_left(points_key, held_key)
  local known = redis.call('HMGET', points_key, 'maximum', 'available', 'rate', 'at')
  if not known[1] then
    return nil
  end
  local maximum, rate = tonumber(known[1]), tonumber(known[3])
  local left = math.min(maximum, tonumber(known[2]) + rate * (now - tonumber(known[4])) / 1000000)
  redis.call('ZREMRANGEBYSCORE', held_key, '-inf', string.format('%.0f', now - 60000000))
  for _, member in ipairs(redis.call('ZRANGE', held_key, 0, -1)) do
    left = left - tonumber(string.match(member, ':([^:]*)$'))
  end
  return left, maximum, rate
end
"""

# KEYS: window, block, marker, queue, alive, points, held, kept.
# ARGV: requests, window, grant, milliseconds that the marker lives, ticket, patience, longest pause of a waiter,
# most waiters, points, milliseconds that a limit counts as in use after its window, grant to exchange or "".
# Returns "0" for a grant, or the microseconds to wait. One who waits keeps its place by its ticket for as long as
# it asks again in time; one who would wait for longer than its patience gets none. One who exchanges a grant gives
# that back in any case, and takes its place in the window at once where it still has one.
ACQUIRE = (
    _HISTORY
    + _NOW
    + _POINTS
    + """
local window_key, block_key, marker_key, queue_key, alive_key, points_key, held_key, kept_key = unpack(KEYS)
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local grant, marker_ms, ticket = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local patience, pause = tonumber(ARGV[6]), tonumber(ARGV[7])
local most_waiters, points = tonumber(ARGV[8]), tonumber(ARGV[9])

local marker = redis.call('GET', marker_key)
local since, remembered = string.match(marker or '', '^(%d+) (%w+)$')
since = tonumber(since)
if not since or remembered ~= history then
  since = now
  redis.call('SET', marker_key, string.format('%.0f ', now) .. history, 'PX', marker_ms)
else
  redis.call('PEXPIRE', marker_key, marker_ms)
end

-- Waiters that died or were told to come back earlier than they did lose their place.
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', alive_key, '-inf', string.format('(%.0f', now))) do
  redis.call('ZREM', queue_key, gone)
  redis.call('ZREM', alive_key, gone)
end
local rank = redis.call('ZRANK', queue_key, ticket)
local ahead = rank or redis.call('ZCARD', queue_key)
local exchanged = ARGV[11]
if exchanged ~= '' then
  local granted_at = tonumber(redis.call('ZSCORE', window_key, exchanged) or nil)
  redis.call('ZREM', window_key, exchanged)
  redis.call('ZREM', held_key, exchanged .. ':' .. ARGV[9])
  -- All others were told to wait for longer than this: for them its place was taken.
  if granted_at and granted_at >= now - window then
    ahead = 0
  end
end

local wait = redis.call('PTTL', block_key) * 1000
-- Workers may ask with different limits for a while, each with the one that its job started with. What any of them
-- needs is kept: the newest grants of the longest window, twice as many as the largest limit, since some may be given
-- back. Only those within one's own window are counted.
local longest, most = string.match(redis.call('GET', kept_key) or '', '^(%d+) (%d+)$')
longest, most = tonumber(longest) or 0, tonumber(most) or 0
if window >= longest or limit >= most then
  longest, most = math.max(window, longest), math.max(limit, most)
  redis.call('SET', kept_key, string.format('%.0f %.0f', longest, most), 'PX',
    math.ceil(longest / 1000) + tonumber(ARGV[10]))
end
redis.call('ZREMRANGEBYSCORE', window_key, '-inf', string.format('(%.0f', now - longest))
local older = redis.call('ZCOUNT', window_key, '-inf', string.format('(%.0f', now - window))
-- Within a window of having forgotten, grants may be unknown: the window counts as full.
if now - since < window then
  wait = math.max(wait, since + window - now)
end
-- What is free belongs to those ahead; behind them the turn comes when as many more calls have left the window.
local used = redis.call('ZCARD', window_key) - older
local behind = ahead + used - limit
if behind >= 0 then
  local place, rounds = behind, 0
  if behind >= used then
    place, rounds = behind % limit, math.floor(behind / limit)
  end
  local leaving = redis.call('ZRANGE', window_key, older + place, older + place, 'WITHSCORES')
  wait = math.max(wait, (tonumber(leaving[2]) or now) + (rounds + 1) * window - now + 1)
end
if points > 0 then
  local left, maximum, rate = points_left(points_key, held_key)
  local needed = points
  if left then
    if ahead > 0 then
      for _, other in ipairs(redis.call('ZRANGE', queue_key, 0, ahead - 1)) do
        needed = needed + tonumber(string.match(other, ':([^:]*)$'))
      end
    end
    if points <= maximum and needed > left and rate > 0 then
      wait = math.max(wait, math.ceil((needed - left) / rate * 1000000))
    end
  end
end

if wait <= 0 then
  redis.call('ZREM', queue_key, ticket)
  redis.call('ZREM', alive_key, ticket)
  redis.call('ZADD', window_key, string.format('%.0f', now), grant)
  redis.call('ZREMRANGEBYRANK', window_key, 0, -2 * most - 1)
  redis.call('PEXPIRE', window_key, math.ceil(longest / 1000) + 60000)
  if points > 0 then
    redis.call('ZADD', held_key, string.format('%.0f', now), grant .. ':' .. ARGV[9])
    redis.call('PEXPIRE', held_key, 120000)
  end
  return '0'
end
if wait > patience or (not rank and ahead >= most_waiters) then
  redis.call('ZREM', queue_key, ticket)
  redis.call('ZREM', alive_key, ticket)
else
  redis.call('ZADD', queue_key, 'NX', string.format('%.0f', now), ticket)
  redis.call('ZADD', alive_key, string.format('%.0f', now + math.min(wait, pause) + 1000000), ticket)
  redis.call('PEXPIRE', queue_key, math.ceil(pause / 1000) + 60000)
  redis.call('PEXPIRE', alive_key, math.ceil(pause / 1000) + 60000)
end
return string.format('%.0f', wait)
"""
)

# KEYS: queue, alive. ARGV: ticket.
LEAVE = """
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('ZREM', KEYS[2], ARGV[1])
"""

# KEYS: window, held. ARGV: grant, its points.
RELEASE = """
redis.call('ZREM', KEYS[2], ARGV[1] .. ':' .. ARGV[2])
return redis.call('ZREM', KEYS[1], ARGV[1])
"""

# KEYS: window. ARGV: grant, microseconds since the time that it counts from now on, milliseconds that the key lives
# where it is new. Never to an earlier time. One that was forgotten meanwhile is known again.
DATE = (
    _NOW
    + """
redis.call('ZADD', KEYS[1], 'GT', string.format('%.0f', now - tonumber(ARGV[2])), ARGV[1])
if redis.call('PTTL', KEYS[1]) < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
"""
)

# KEYS: points, held. ARGV: grant, its points, maximum, available, rate (empty: the answer told nothing).
OBSERVE = (
    _NOW
    + """
redis.call('ZREM', KEYS[2], ARGV[1] .. ':' .. ARGV[2])
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'maximum', ARGV[3], 'available', ARGV[4], 'rate', ARGV[5],
    'at', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], 3600000)
end
return 1
"""
)

DECLARE = (
    _HISTORY
    + """
return redis.call('SET', KEYS[1], '0 ' .. history, 'NX', 'PX', ARGV[1])
"""
)

# A longer block is never shortened by a later, shorter one.
BLOCK = """
local milliseconds = tonumber(ARGV[1])
if redis.call('PTTL', KEYS[1]) < milliseconds then
  redis.call('SET', KEYS[1], '1', 'PX', milliseconds)
end
return 1
"""
