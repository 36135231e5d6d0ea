"""Scripts for the counters of scan numbers: each change is one step of Redis.

A counter goes on from the largest number that counts. Those beyond a limit do not: a
program that gives 99999999 once must not end the counting. A given number may raise
the counter far. What it was before is noted, so that a scan that cannot start puts it
back, unless another scan got a number in between.
"""

from __future__ import annotations

from typing import Final

from scanbus.schemas import MAX_COUNTED_NUMBER

__all__ = ["CLAIM", "LOWER", "RAISE", "RELEASE", "TAKE_AFTER"]

# For scans that are opened and cannot start a day later.
_RAISED_MS: Final = 86_400_000
# Notes on the raises of one dataset; scans that start leave theirs.
_MOST_RAISED: Final = 100

_COMMON: Final = f"""
-- Whether there is one; a key of another type is removed.
local function has(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
  return found == kind
end
local function counting(number)
  local found = tonumber(number) or 0
  if found > {MAX_COUNTED_NUMBER} then return 0 end
  return found
end
local function counter(key)
  if not has(key, 'string') then return false end
  local stored = redis.call('GET', key)
  local is_one = string.match(stored, '^%d+$') and
    tonumber(stored) <= {MAX_COUNTED_NUMBER}
  return is_one and tonumber(stored)
end
-- A full Redis refuses SET and HSET, but not after a write that frees memory.
local function set(key, number)
  redis.call('DEL', key)
  redis.call('SET', key, number)
end
local function note_taken(raised, number)
  if not has(raised, 'hash') then return end
  local notes = redis.call('HGETALL', raised)
  for i = 1, #notes, 2 do
    if tonumber(notes[i + 1]) < number and number <= tonumber(notes[i]) then
      redis.call('HDEL', raised, notes[i])
      redis.call('HSET', raised, notes[i], number)
      redis.call('PEXPIRE', raised, {_RAISED_MS})
    end
  end
end
"""

# KEYS: the counter, its raises. It is what it was before, or one less than a number
# that was counted; -1 is returned if it has not been this number's for long.
LOWER: Final = (
    _COMMON
    + """
local function lower(key, raised, number)
  local before = has(raised, 'hash') and redis.call('HGET', raised, number)
  if before then redis.call('HDEL', raised, number) end
  if counter(key) ~= number then return -1 end
  local to = tonumber(before or number - 1)
  if to >= number then return -1 end
  redis.call('DEL', key)
  if to > 0 then redis.call('SET', key, to) end
  return to
end
"""
)

# KEYS: the counter, its raises, the prefix of the claims. A full Redis refuses it: a
# number is wanted before a scan, and can wait.
CLAIM: Final = (
    _COMMON
    + f"""
local stored = counter(KEYS[1])
if ARGV[5] == '1' and not stored then return false end
local known = math.max(stored or 0, counting(ARGV[4]))
local number = tonumber(ARGV[2])
if number == 0 then
  number = known
  repeat number = number + 1 until redis.call('EXISTS', KEYS[3] .. number) == 0
  if number > {MAX_COUNTED_NUMBER} then return {{0, known, ''}} end
end
local claim = KEYS[3] .. number
local holder = has(claim, 'string') and redis.call('GET', claim)
if holder and holder ~= ARGV[1] then return {{number, known, holder}} end
redis.call('SET', claim, ARGV[1], 'PX', ARGV[3])
note_taken(KEYS[2], number)
local top = math.max(known, counting(number))
if top > known + 1 and ARGV[2] ~= '0' then
  if redis.call('HLEN', KEYS[2]) >= {_MOST_RAISED} then redis.call('DEL', KEYS[2]) end
  redis.call('HSET', KEYS[2], number, known)
  redis.call('PEXPIRE', KEYS[2], {_RAISED_MS})
end
if top ~= stored then redis.call('SET', KEYS[1], top) end
return {{number, known, ''}}
"""
)

# KEYS: the counter, its raises, the claim. Without the claim it is announced, or late.
RELEASE: Final = (
    LOWER
    + """
if not has(KEYS[3], 'string') then return -1 end
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return -1 end
redis.call('DEL', KEYS[3])
if ARGV[3] == '0' then return -1 end
return lower(KEYS[1], KEYS[2], tonumber(ARGV[2]))
"""
)

# KEYS: the counter, its raises.
RAISE: Final = (
    _COMMON
    + """
local known = counter(KEYS[1])
local number = counting(ARGV[1])
note_taken(KEYS[2], number)
if not known or known < number then set(KEYS[1], number) end
return known or -1
"""
)

# KEYS: the counter.
TAKE_AFTER: Final = (
    _COMMON
    + f"""
local number = math.max(counter(KEYS[1]) or 0, counting(ARGV[1])) + 1
if number > {MAX_COUNTED_NUMBER} then return 0 end
set(KEYS[1], number)
return number
"""
)
