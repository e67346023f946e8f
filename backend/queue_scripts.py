"""The queue's steps as Lua: Redis runs each as one, so that no two processes can be half-way in the same job.

Every script gets the name space as its only key and takes the time from Redis, whose clock is the only one
that all machines share. A job's writes name the attempt that they belong to; those of an attempt that is
over change nothing. The keys, below the name space:

- `job:ID` hash: all about one job; `parts:ID` list: its finished results; `chunk:ID:TOKEN:N`: its checkpoint;
  `picture:ID`: how it stands, for people; it vanishes by itself
- `waiting:QUEUE` sorted set: queued jobs by the time they are due; `running`: by the last sign of life
- `theirs:QUEUE:PROJECT` set: those of the queued jobs that a project has there
- `key:KEY`: the job of that key; `group:GROUP` set: live jobs of the group
- `next:LANE`: the job that gathers calls; `gathered:ID` set: of what; `turn:LANE`: the job that has begun
- `recent`, `dead` sorted sets: all jobs, and failed ones, by time; `counts`, `pace` hashes: for monitors
- `workers` sorted set by last sign of life, `worker:NAME` hash; `swept`: when the sweeper last looked
"""

from __future__ import annotations

_COMMON = """
local P = KEYS[1] .. ':'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local WORDS = {cancelled = 'cancelled', superseded = 'replaced by a newer request'}
local function at(kind, id) return P .. kind .. ':' .. id end
local function get(id, field) return redis.call('HGET', at('job', id), field) or '' end
local function set(id, ...) redis.call('HSET', at('job', id), ...) end
local function held(id, attempt) return get(id, 'state') == 'running' and get(id, 'attempt') == attempt end

local function theirs(id) return at('theirs', get(id, 'queue') .. ':' .. get(id, 'project')) end
local function wait_until(id, due)
  redis.call('ZADD', at('waiting', get(id, 'queue')), due, id)
  if get(id, 'project') ~= '' then redis.call('SADD', theirs(id), id) end
end
local function wait_no_more(id)
  redis.call('SREM', theirs(id), id)
  return redis.call('ZREM', at('waiting', get(id, 'queue')), id)
end

local function chunks(id)
  local keys = {}
  local token, count = string.match(get(id, 'checkpoint'), '^(.*):(%d+)$')
  for i = 0, tonumber(count or 0) - 1 do keys[#keys + 1] = at('chunk', id .. ':' .. token .. ':' .. i) end
  return keys
end

local function leave_lane(id)
  local lane = get(id, 'lane')
  if lane == '' then return end
  redis.call('DEL', at('gathered', id))
  for _, place in ipairs({at('next', lane), at('turn', lane)}) do
    if redis.call('GET', place) == id then redis.call('DEL', place) end
  end
  local other = redis.call('GET', at('next', lane))
  if other and get(other, 'state') == 'queued' then  -- it was put off, see CLAIM
    redis.call('ZADD', at('waiting', get(other, 'queue')), get(other, 'due'), other)
  end
end

local function finish(id, state, problem)
  local ttl, queue, group, key = get(id, 'ttl'), get(id, 'queue'), get(id, 'group'), get(id, 'key')
  set(id, 'state', state, 'ended', now, 'error', problem, 'rate', 0)
  wait_no_more(id)
  redis.call('ZREM', P .. 'running', id)
  if group ~= '' then redis.call('SREM', at('group', group), id) end
  redis.call('HINCRBY', P .. 'counts', get(id, 'kind') .. ':' .. state, 1)
  for _, chunk in ipairs(chunks(id)) do
    if state == 'done' then redis.call('DEL', chunk) else redis.call('EXPIRE', chunk, ttl) end
  end
  redis.call('EXPIRE', at('job', id), ttl)
  redis.call('EXPIRE', at('parts', id), ttl)
  if key ~= '' and redis.call('GET', at('key', key)) == id then redis.call('EXPIRE', at('key', key), ttl) end
  leave_lane(id)
  if state == 'failed' then
    redis.call('ZADD', P .. 'dead', now, id)
    redis.call('ZREMRANGEBYRANK', P .. 'dead', 0, -1001)
  end
  if state == 'done' then
    local took = now - tonumber(get(id, 'started'))
    local mean = tonumber(redis.call('HGET', P .. 'pace', queue) or took)
    redis.call('HSET', P .. 'pace', queue, mean * 0.8 + took * 0.2)
  end
end

local function requeue(id, delay)
  set(id, 'state', 'queued', 'ticket', '', 'due', now + delay, 'rate', 0)
  redis.call('ZREM', P .. 'running', id)
  wait_until(id, now + delay)
end

local function fail(id, problem, first_delay)
  local failures = redis.call('HINCRBY', at('job', id), 'failures', 1)
  local cancel = get(id, 'cancel')
  if cancel ~= '' then return finish(id, 'cancelled', WORDS[cancel]) end
  if failures >= tonumber(get(id, 'max_attempts')) then
    return finish(id, 'failed', problem .. ' (tried ' .. failures .. ' times)')
  end
  set(id, 'error', problem)
  local delay = first_delay
  if failures > 1 then delay = math.min(1000 * 4 ^ (failures - 1), 60000) end
  requeue(id, delay)
end

local function cancel(id, why)
  local state = get(id, 'state')
  if state == 'queued' then finish(id, 'cancelled', WORDS[why]) end
  if state == 'running' and get(id, 'cancel') == '' then set(id, 'cancel', why) end
  return state
end
"""

# What makes a new job.
_CREATE = """
local function refusal(word, queue, waiting)
  local workers = redis.call('ZCOUNT', P .. 'workers', now - 5000, '+inf')
  return {word, waiting, redis.call('HGET', P .. 'pace', queue) or '5000', workers}
end
local function full(queue, limit, leaving)
  local waiting = redis.call('ZCARD', at('waiting', queue))
  return waiting - leaving >= tonumber(limit) and refusal('full', queue, waiting)
end

local function create(id, kind, queue, payload, title, timeout, max_attempts, ttl, due, project)
  set(id, 'kind', kind, 'queue', queue, 'payload', payload, 'title', title, 'timeout', timeout,
    'max_attempts', max_attempts, 'ttl', ttl, 'state', 'queued', 'attempt', 0, 'failures', 0,
    'created', now, 'due', due, 'ticket', '', 'ticketed', now, 'project', project)
  wait_until(id, due)
  local place = clock[1] * 1000000 + clock[2]  -- jobs of one ms stay in order, and those after a clock's fall
  local last = redis.call('ZREVRANGE', P .. 'recent', 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', P .. 'recent', math.max(place, tonumber(last or 0) + 1), id)
  redis.call('ZREMRANGEBYRANK', P .. 'recent', 0, -10001)
end
"""

# A job that is there already comes forward where the new request is more urgent, with a ticket to be issued.
# id, kind, queue, payload, key, group, title, timeout, max_attempts, ttl, limit, once, project, its limit
ENQUEUE = (
    _COMMON
    + _CREATE
    + """
local RANK = {interactive = 1, batch = 2, fit = 3}
local function raise(other, queue)
  local was = get(other, 'queue')
  if RANK[queue] >= RANK[was] then return '' end
  local waited = wait_no_more(other)
  set(other, 'queue', queue)
  if waited == 0 then return '' end
  wait_until(other, get(other, 'due'))
  local ticket = other .. '-' .. redis.call('HINCRBY', at('job', other), 'tickets', 1)
  set(other, 'ticket', ticket, 'ticketed', now)
  return ticket
end
local id, kind, queue, payload, key, group, title = unpack(ARGV, 1, 7)
local timeout, max_attempts, ttl, limit = unpack(ARGV, 8, 11)
local project, own_limit = ARGV[13], tonumber(ARGV[14])
if redis.call('EXISTS', at('job', id)) == 1 then return {'new', id} end
if key ~= '' then
  local other = redis.call('GET', at('key', key))
  if other then
    local state = get(other, 'state')
    local live = (state == 'queued' or state == 'running') and get(other, 'cancel') == ''
    local good = (live or state == 'done') and get(other, 'dropped') == ''
    if good or (state ~= '' and ARGV[12] == '1') then
      return {'old', other, live and raise(other, queue) or ''}
    end
  end
end
local older, leaving, own_leaving = {}, 0, 0
if group ~= '' then older = redis.call('SMEMBERS', at('group', group)) end
for _, other in ipairs(older) do
  if get(other, 'state') == 'queued' and get(other, 'queue') == queue then
    leaving = leaving + 1
    if get(other, 'project') == project then own_leaving = own_leaving + 1 end
  end
end
local refused = full(queue, limit, leaving)
if not refused and project ~= '' then
  local own = at('theirs', queue .. ':' .. project)
  if redis.call('SCARD', own) - own_leaving >= own_limit then
    for _, other in ipairs(redis.call('SMEMBERS', own)) do  -- a worker of an older release takes none out
      if not redis.call('ZSCORE', at('waiting', queue), other) then redis.call('SREM', own, other) end
    end
  end
  local count = redis.call('SCARD', own)
  if count - own_leaving >= own_limit then refused = refusal('project', queue, count) end
end
if refused then return refused end
for _, other in ipairs(older) do cancel(other, 'superseded') end
create(id, kind, queue, payload, title, timeout, max_attempts, ttl, now, project)
set(id, 'key', key, 'group', group, 'ticket', id .. '-0')
if key ~= '' then redis.call('SET', at('key', key), id) end
if group ~= '' then redis.call('SADD', at('group', group), id) end
return {'new', id, unpack(older)}
"""
)

# Calls join the job of their lane that waits and has read nothing yet; where there is none, they make one.
# It is due after `delay` ms, or once so many different things were named. The sweeper issues its ticket.
# id, kind, queue, payload, lane, title, timeout, max_attempts, ttl, limit, count, delay, unit, project;
# then things
GATHER = (
    _COMMON
    + _CREATE
    + """
local id, kind, queue, payload, lane, title = unpack(ARGV, 1, 6)
local count, delay, unit = tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13]
local waiting = redis.call('GET', at('next', lane))
if not waiting or get(waiting, 'state') ~= 'queued' or get(waiting, 'checkpoint') ~= '' then
  local refused = full(queue, ARGV[10], 0)
  if refused then return refused end
  create(id, kind, queue, payload, title, ARGV[7], ARGV[8], ARGV[9], now + delay, ARGV[14])
  set(id, 'lane', lane, 'wanted', count, 'unit', unit)
  redis.call('SET', at('next', lane), id)
  waiting = id
end
for i = 15, #ARGV do redis.call('SADD', at('gathered', waiting), ARGV[i]) end
local gathered = redis.call('SCARD', at('gathered', waiting))
set(waiting, 'gathered', gathered)
if gathered >= count and tonumber(get(waiting, 'due')) > now then
  set(waiting, 'due', now)
  redis.call('ZADD', at('waiting', get(waiting, 'queue')), now, waiting)
end
return {waiting == id and 'new' or 'old', waiting}
"""
)

# id, why
CANCEL = _COMMON + "return cancel(ARGV[1], ARGV[2])"

# id, words
DROP = (
    _COMMON
    + """
local id, state = ARGV[1], get(ARGV[1], 'state')
if state ~= 'queued' and state ~= 'running' then return '' end
local known = {}
for word in string.gmatch(get(id, 'dropped'), '%S+') do known[word] = true end
for i = 2, #ARGV do known[ARGV[i]] = true end
local words = {}
for word in pairs(known) do words[#words + 1] = word end
table.sort(words)  -- `pairs` has no order that a replica could rely on
set(id, 'dropped', table.concat(words, ' '))
return table.concat(words, ' ')
"""
)

# id
RETRY = (
    _COMMON
    + """
local id = ARGV[1]
local state, key, group = get(id, 'state'), get(id, 'key'), get(id, 'group')
if state ~= 'failed' and state ~= 'cancelled' then return 0 end
for _, chunk in ipairs(chunks(id)) do redis.call('PERSIST', chunk) end
redis.call('PERSIST', at('job', id))
redis.call('PERSIST', at('parts', id))
redis.call('ZREM', P .. 'dead', id)
if key ~= '' then redis.call('SET', at('key', key), id, 'NX') end
if group ~= '' then redis.call('SADD', at('group', group), id) end
set(id, 'failures', 0, 'cancel', '', 'error', '', 'ended', 0, 'result', '')
requeue(id, 0)
return 1
"""
)

# Of a lane one job has its turn until it is over, while it waits for another try as well.
# id, worker, claim (a token of this call: asked twice, it is answered twice)
CLAIM = (
    _COMMON
    + """
local id, worker, claim = ARGV[1], ARGV[2], ARGV[3]
local job, state = at('job', id), get(ARGV[1], 'state')
local ROW = {'attempt', 'kind', 'queue', 'payload', 'timeout', 'checkpoint', 'kept', 'dropped'}
if state == 'running' and get(id, 'claim') == claim then
  return redis.call('HMGET', job, unpack(ROW))
end
if state ~= 'queued' or tonumber(get(id, 'due')) > now then return false end
local lane = get(id, 'lane')
if lane ~= '' then
  local first = redis.call('GET', at('turn', lane)) or id
  local ahead = get(first, 'state')
  if first ~= id and (ahead == 'queued' or ahead == 'running') then
    set(id, 'ticket', '', 'unit', '', 'note', 'begins when the one before it has ended')
    redis.call('ZADD', at('waiting', get(id, 'queue')), now + 10000, id)  -- looks again; its end is told
    return false
  end
  redis.call('SET', at('turn', lane), id)
  redis.call('DEL', at('gathered', id))
  set(id, 'unit', '')
end
redis.call('HINCRBY', job, 'attempt', 1)
set(id, 'state', 'running', 'worker', worker, 'claim', claim, 'ticket', '')
redis.call('HSETNX', job, 'started', now)
redis.call('HSETNX', job, 'kept', 0)
wait_no_more(id)
redis.call('ZADD', P .. 'running', now, id)
local kept = tonumber(get(id, 'kept'))
if kept == 0 then redis.call('DEL', at('parts', id))
else redis.call('LTRIM', at('parts', id), 0, kept - 1) end
return redis.call('HMGET', job, unpack(ROW))
"""
)

# id, attempt, done, total, note, rate, then the more urgent queues that this worker serves.
# Answers with the reason to stop, if any, and with what to leave out.
# A job that can resume makes room for one that has waited a second, at most one job in five seconds.
BEAT = (
    _COMMON
    + """
local id = ARGV[1]
if not held(id, ARGV[2]) then return {'lost', ''} end
set(id, 'done', ARGV[3], 'total', ARGV[4], 'note', ARGV[5], 'rate', ARGV[6])
redis.call('ZADD', P .. 'running', now, id)
local dropped = get(id, 'dropped')
if get(id, 'cancel') ~= '' then return {get(id, 'cancel'), dropped} end
if get(id, 'checkpoint') ~= '' then
  for i = 7, #ARGV do
    local urgent = redis.call('ZCOUNT', at('waiting', ARGV[i]), '-inf', now - 1000)
    if urgent > 0 and redis.call('SET', P .. 'yielded', id, 'NX', 'PX', 5000) then
      return {'yield', dropped}
    end
  end
end
return {'', dropped}
"""
)

# id, attempt, index, part
APPEND = (
    _COMMON
    + """
local id, index = ARGV[1], tonumber(ARGV[3])
if not held(id, ARGV[2]) then return 0 end
local length = redis.call('LLEN', at('parts', id))
if length == index then redis.call('RPUSH', at('parts', id), ARGV[4]) end
return 1
"""
)

# id, attempt, JPEG. It lives as long as a result would; each newer one begins that time anew.
PICTURE = (
    _COMMON
    + """
local id = ARGV[1]
if not held(id, ARGV[2]) then return 0 end
redis.call('SET', at('picture', id), ARGV[3], 'EX', get(id, 'ttl'))
return 1
"""
)

# id, attempt, token, number of chunks
CHECKPOINT = (
    _COMMON
    + """
local id, name = ARGV[1], ARGV[3] .. ':' .. ARGV[4]
if not held(id, ARGV[2]) then return 0 end
if get(id, 'checkpoint') == name then return 1 end
local old = chunks(id)
set(id, 'checkpoint', name, 'kept', redis.call('LLEN', at('parts', id)))
for _, chunk in ipairs(chunks(id)) do redis.call('PERSIST', chunk) end
for _, chunk in ipairs(old) do redis.call('DEL', chunk) end
return 1
"""
)

# id, attempt, verb, text: done RESULT | cancelled RESULT | failed WORDS | retry WORDS | release
SETTLE = (
    _COMMON
    + """
local id, verb, text = ARGV[1], ARGV[3], ARGV[4]
if not held(id, ARGV[2]) then return 0 end
if verb == 'done' then set(id, 'result', text); finish(id, 'done', '')
elseif verb == 'cancelled' then set(id, 'result', text); finish(id, 'cancelled', WORDS[get(id, 'cancel')])
elseif verb == 'failed' then finish(id, 'failed', text)
elseif verb == 'retry' then fail(id, text, 1000)
elseif get(id, 'cancel') ~= '' then finish(id, 'cancelled', WORDS[get(id, 'cancel')])
else requeue(id, 0) end
return 1
"""
)

# lease, watch, ticket grace, quiet time after another sweeper (all ms), then pairs of queue, tickets' key.
# Answers with the tickets to issue: job, kind, queue, ticket, timeout, attempt.
# Where nobody has looked for `watch` ms, Redis itself was away, or everybody was: signs of life are then old
# for no fault of the workers, and each gets a fresh lease.
SWEEP = (
    _COMMON
    + """
local lease, watch = tonumber(ARGV[1]), tonumber(ARGV[2])
local grace, quiet = tonumber(ARGV[3]), tonumber(ARGV[4])
local since = now - tonumber(redis.call('GET', P .. 'swept') or 0)
if since >= 0 and since < quiet then return {} end
redis.call('SET', P .. 'swept', now)
if since > watch or since < 0 then
  for _, id in ipairs(redis.call('ZRANGE', P .. 'running', 0, -1)) do
    redis.call('ZADD', P .. 'running', now, id)
  end
end
if since < 0 then
  redis.call('DEL', P .. 'yielded')
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', P .. 'workers', '(' .. now, '+inf')) do
    redis.call('ZADD', P .. 'workers', now, name)
  end
  for i = 5, #ARGV, 2 do
    for _, id in ipairs(redis.call('ZRANGE', at('waiting', ARGV[i]), 0, -1)) do
      redis.call('ZINCRBY', at('waiting', ARGV[i]), since, id)
      set(id, 'due', (tonumber(get(id, 'due')) or now) + since, 'ticketed', now)
    end
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'running', '-inf', now - lease)) do
  fail(id, 'the worker stopped without a word', 0)
end
redis.call('ZREMRANGEBYSCORE', P .. 'workers', '-inf', now - 60000)
local tickets = {}
for i = 5, #ARGV, 2 do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', at('waiting', ARGV[i]), '-inf', now)) do
    local ticket = get(id, 'ticket')
    local old = now - tonumber(get(id, 'ticketed')) > grace
    if ticket == '' or (old and not redis.call('LPOS', ARGV[i + 1], ticket)) then
      ticket = id .. '-' .. redis.call('HINCRBY', at('job', id), 'tickets', 1)
      set(id, 'ticket', ticket, 'ticketed', now)
      local row = {id, get(id, 'kind'), ARGV[i], ticket, get(id, 'timeout'), get(id, 'attempt')}
      for _, value in ipairs(row) do tickets[#tickets + 1] = value end
    end
  end
end
return tickets
"""
)

# name, host, pid, queues, job, rate, memory: a worker's sign of life
GREET = (
    _COMMON
    + """
local worker = at('worker', ARGV[1])
redis.call('ZADD', P .. 'workers', now, ARGV[1])
redis.call('HSETNX', worker, 'started', now)
redis.call('HSET', worker, 'host', ARGV[2], 'pid', ARGV[3], 'queues', ARGV[4])
redis.call('HSET', worker, 'job', ARGV[5], 'rate', ARGV[6], 'memory', ARGV[7])
redis.call('EXPIRE', worker, 60)
return 1
"""
)
