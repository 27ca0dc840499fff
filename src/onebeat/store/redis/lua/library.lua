-- What every script begins with: where it is, what time it is, and how a run lies in the indexes.
--
-- KEYS[1] the namespace in braces, so that all its keys share one slot
-- ARGV[1] the arguments, packed; ARGV[2] which ledger is meant; ARGV[3] the clock, '' for the server's own;
-- ARGV[4] who asks, so that nobody is woken by what he did himself
--
-- An error does not undo what a script has written. So a script that writes first looks at everything that
-- could stop it, and then makes only writes that cannot fail. Instants are texts of whole microseconds: what
-- a hash says is what was put there, digit by digit; as numbers they are exact up to the year 2255.

local ns = KEYS[1] .. ':'
local args = cmsgpack.unpack(ARGV[1])
local call = redis.call
local META = ns .. 'meta'

if call('HGET', META, 'ledger') ~= ARGV[2] then
  return redis.error_reply('ONEBEATGONE')
end

local now = ARGV[3]
if now == '' then
  local time = call('TIME')
  now = string.format('%.0f', time[1] * 1000000 + time[2])
end
local clock = tonumber(now)

local function whole(number)
  return string.format('%.0f', number)
end

local LIVE = {ready = true, sent = true, running = true, parked = true}
local OUT = {sent = true, running = true}
local FINISHED = {
  succeeded = true, failed = true, cancelled = true, timed_out = true, expired = true, handed_over = true,
}

-- --- hashes ---

local function read(key, names)
  local row = {}
  local found = call('HMGET', ns .. key, unpack(names))
  for index = 1, #names do
    row[names[index]] = found[index] or nil
  end
  return row
end

local function values(key, names)
  return call('HMGET', ns .. key, unpack(names))
end

-- --- what is gathered, and written at the end of a script ---

local counters = {} -- of the hash meta: read once, counted here, written once
local added = {} -- sorted set -> scores and members
local removed = {} -- sorted set -> members
local seated = {} -- runs whose places are among these
local balance = {} -- target -> by how many its unfinished runs grew
local emptied = {} -- lanes that may be empty now
local news = false -- whether others may find something to do

local function count(name)
  local value = (counters[name] or tonumber(call('HGET', META, name) or '0')) + 1
  counters[name] = value
  return value
end

local function zadd(key, score, member)
  local batch = added[key]
  if batch == nil then
    batch = {}
    added[key] = batch
  end
  batch[#batch + 1] = score
  batch[#batch + 1] = member
end

local function zrem(key, member)
  local batch = removed[key]
  if batch == nil then
    batch = {}
    removed[key] = batch
  end
  batch[#batch + 1] = member
end

local function each_thousand(command, sets)
  for key, batch in pairs(sets) do
    for from = 1, #batch, 1000 do
      call(command, ns .. key, unpack(batch, from, math.min(from + 999, #batch)))
    end
  end
end

-- A run is moved once at most between two flushes, so it does not matter which of its places is written first.
local function flush()
  each_thousand('ZREM', removed)
  each_thousand('ZADD', added)
  added, removed, seated = {}, {}, {}
end

-- Write what was gathered; return the number of changes so far, so that a writer knows its own.
local function finish()
  flush()
  for name, value in pairs(counters) do
    call('HSET', META, name, whole(value))
  end
  for target, number in pairs(balance) do
    if number ~= 0 and call('HINCRBY', ns .. 'unfinished', target, number) == 0 then
      call('HDEL', ns .. 'unfinished', target)
    end
  end
  for lane in pairs(emptied) do
    if call('EXISTS', ns .. 'ready:' .. lane) == 0 then
      call('ZREM', ns .. 'lanes', lane)
    end
  end
  if not news then
    return 0
  end
  local changes = call('HINCRBY', META, 'changes', 1)
  call('PUBLISH', ns .. 'changes', whole(changes) .. ' ' .. ARGV[4])
  return changes
end

-- Raise before anything is written where a hand has put something else in the place of a shared key.
local SHARED = {
  due = 'zset', lanes = 'zset', watch = 'zset', events = 'stream', unfinished = 'hash', names = 'hash',
  schedules = 'zset', rows = 'zset', targets = 'hash',
  groups = 'hash', ['state:ready'] = 'zset', ['state:waiting'] = 'zset', ['state:running'] = 'zset',
}
local function wrong_place()
  for key, kind in pairs(SHARED) do
    local found = call('TYPE', ns .. key).ok
    if found ~= 'none' and found ~= kind then
      return redis.error_reply('ONEBEATWRONG ' .. ns .. key .. ' is a ' .. found .. ' and no ' .. kind)
    end
  end
end

-- --- events ---

-- Append an event: names and values in turn. A tile is one that covers an interval.
local function tell(fields, schedule_id, schedule, run_id, tile)
  local id = whole(count('last_event'))
  news = true
  if schedule then
    zadd('events:' .. schedule, id, id)
  end
  if run_id then
    zadd('run-events:' .. run_id, id, id)
  end
  if tile then
    zadd('tiles:' .. schedule_id, id, id)
  end
  call('XADD', ns .. 'events', id .. '-0', unpack(fields))
end

-- --- runs ---

local loaded = {}

-- Return a run, the same table each time; nil where there is none.
local function run_of(id)
  local run = loaded[id]
  if run == nil then
    local flat = call('HGETALL', ns .. 'run:' .. id)
    run = {id = id}
    for name = 1, #flat, 2 do
      run[flat[name]] = flat[name + 1]
    end
    loaded[id] = run
  end
  return run.state and run or nil
end

-- A lane holds the ready runs of one priority, queue and target: what a claim goes through.
local function lane_of(run)
  return run.priority .. ':' .. #run.queue .. ':' .. run.queue .. ':' .. run.target
end

-- The group of a queue's text, queue!group; nil where it has none. See lanes.py.
local function group_of(queue)
  return queue:match('!(.+)$')
end

-- Whether a group has a run out: whether the one that was let out last still is, its own state says.
local function has_one_out(group)
  local id = call('HGET', ns .. 'groups', group)
  local state = id and call('HGET', ns .. 'run:' .. id, 'state')
  return state and OUT[state]
end

local function watch_of(run)
  if run.state == 'running' then
    return run.lease_until
  elseif run.state == 'sent' then
    return run.resend_at
  elseif run.state == 'waiting' or run.state == 'ready' then
    return run.deadline_at
  end
end

local opened = {} -- lanes that are in `lanes`
local function seat(fired, ready_at, id)
  local lane = lane_of(fired)
  if not opened[lane] then
    opened[lane] = true
    zadd('lanes', -tonumber(fired.priority), lane)
  end
  zadd('ready:' .. lane, ready_at, id)
  news = true
end

local function leave_lane(run)
  local lane = lane_of(run)
  zrem('ready:' .. lane, run.id)
  emptied[lane] = true
end

local function reseat(run, before)
  local own, id = run.schedule_id, run.id
  zrem('state:' .. before, id)
  zadd('state:' .. run.state, run.seq, id)
  if LIVE[before] ~= LIVE[run.state] then
    call('ZREM', ns .. (LIVE[before] and 'live:' or 'waiting:') .. own, id)
    if LIVE[run.state] then
      call('ZADD', ns .. 'live:' .. own, run.seq, id)
    end
  elseif before == 'waiting' then
    call('ZREM', ns .. 'waiting:' .. own, id)
  end
  if FINISHED[run.state] then
    call('ZADD', ns .. 'ended:' .. own, run.seq, id)
    balance[run.target] = (balance[run.target] or 0) - 1
  end
end

-- Write to a run what changed (false: it is gone), and that alone.
local function rewrite(run, changes)
  local set, gone = {}, {}
  for name, value in pairs(changes) do
    if value then
      if run[name] ~= value then
        set[#set + 1] = name
        set[#set + 1] = value
        run[name] = value
      end
    elseif run[name] then
      gone[#gone + 1] = name
      run[name] = nil
    end
  end
  if #set > 0 then
    call('HSET', ns .. 'run:' .. run.id, unpack(set))
  end
  if #gone > 0 then
    call('HDEL', ns .. 'run:' .. run.id, unpack(gone))
  end
end

-- Write what changed of a run, and move it in every index that can tell; what is gathered is in its place only
-- after flush().
local function change(run, changes)
  if seated[run.id] then
    flush()
  end
  seated[run.id] = true
  local before, watched = run.state, watch_of(run)
  if before == 'ready' and changes.state then
    leave_lane(run)
  end
  rewrite(run, changes)
  if run.state ~= before then
    reseat(run, before)
    local group = group_of(run.queue)
    if group and OUT[run.state] and not OUT[before] then
      call('HSET', ns .. 'groups', group, run.id)
    elseif group and OUT[before] and not OUT[run.state] then
      news = true -- for who waits for the group
    end
  end
  if run.state == 'ready' and changes.state then
    seat(run, run.ready_at, run.id)
  end
  local watch = watch_of(run)
  if watch == nil then
    if watched ~= nil then
      zrem('watch', run.id)
    end
  elseif watch ~= watched then
    zadd('watch', watch, run.id)
  end
end

-- Add a run. `new` is id, state, due_at, ready_at, deadline_at (or false), then names and values; `row` is what
-- it is fired under: id, name, number, queue, target, priority.
local function fire(row, new)
  local id, state, due_at, ready_at, deadline_at = unpack(new, 1, 5)
  local seq = whole(count('last_run'))
  seated[id] = true
  row.priority = row.priority or '0'
  call('HSET', ns .. 'run:' .. id, 'state', state, 'due_at', due_at, 'ready_at', ready_at,
    'schedule_id', row.id, 'schedule', row.name, 'number', row.number, 'queue', row.queue, 'target', row.target,
    'priority', row.priority, 'created_at', now, 'seq', seq, unpack(new, 6))
  zadd('state:' .. state, seq, id)
  if state == 'waiting' then
    call('ZADD', ns .. 'waiting:' .. row.id, due_at, id)
  else
    call('ZADD', ns .. 'live:' .. row.id, seq, id)
    seat(row, ready_at, id)
  end
  if deadline_at then
    call('HSET', ns .. 'run:' .. id, 'deadline_at', deadline_at)
    zadd('watch', deadline_at, id)
  end
  balance[row.target] = (balance[row.target] or 0) + 1
end

-- What ends a run. Holder and token stay: they say who had it, and let a repeated Finish be known again.
local function ended(state, reason)
  return {
    state = state, reason = reason or false, finished_at = now, lease_until = false, resend_at = false,
  }
end

-- What a cancel makes of an unfinished run: it ends, or is flagged if a holder has it.
local function cancelled(run, reason)
  if run.state == 'running' then
    return {cancel_requested = '1'}
  end
  return ended('cancelled', reason)
end

local function cancel(ids, reason)
  for _, id in ipairs(ids) do
    local run = run_of(id)
    change(run, cancelled(run, reason))
  end
  news = true
end

local function cancel_unfinished(schedule_id, reason)
  cancel(call('ZRANGE', ns .. 'live:' .. schedule_id, 0, -1), reason)
  cancel(call('ZRANGE', ns .. 'waiting:' .. schedule_id, 0, -1), reason)
end

-- Make waiting runs ready, the one that was due first first, as far as the definition in force has slots.
local function promote(schedule_id)
  local waiting = call('ZCARD', ns .. 'waiting:' .. schedule_id)
  if waiting == 0 then
    return
  end
  local limit = call('HGET', ns .. 'schedule:' .. schedule_id, 'max_running')
  local free = waiting
  if limit then
    free = tonumber(limit) - call('ZCARD', ns .. 'live:' .. schedule_id)
  end
  if free > 0 then
    for _, id in ipairs(call('ZRANGE', ns .. 'waiting:' .. schedule_id, 0, free - 1)) do
      change(run_of(id), {state = 'ready'})
    end
  end
end

-- --- tiles ---

-- Return the id of a run among these tiles that exists already: no run id is given twice.
local taken = {}
local function known_run(new)
  local id = new[1]
  if taken[id] or call('EXISTS', ns .. 'run:' .. id) == 1 then
    return redis.error_reply('ONEBEATKNOWN ' .. id)
  end
  taken[id] = true
end

local function known_tile(tiles)
  for _, tile in ipairs(tiles) do
    local known = tile[1] and known_run(tile)
    if known then
      return known
    end
  end
end

-- Whether all runs are waiting that these folds (each a run, first, last, count) reach from beside.
local function all_wait(folds)
  for _, fold in ipairs(folds) do
    if call('HGET', ns .. 'run:' .. fold[1], 'state') ~= 'waiting' then
      return false
    end
  end
  return true
end

-- Let waiting runs stand for more occurrences than they did; see extended() in moves.py.
local function extend(folds)
  for _, fold in ipairs(folds) do
    local id, first, last, number = unpack(fold, 1, 4)
    local run = read('run:' .. id, {'fold_first_at', 'fold_last_at', 'fold_count', 'occurrence_at'})
    local own_first, own_last = run.fold_first_at or run.occurrence_at, run.fold_last_at or run.occurrence_at
    if own_first then
      first = tonumber(own_first) < tonumber(first) and own_first or first
      last = tonumber(own_last) > tonumber(last) and own_last or last
      number = number + tonumber(run.fold_count or '1')
    end
    call('HSET', ns .. 'run:' .. id, 'fold_first_at', first, 'fold_last_at', last, 'fold_count', whole(number))
  end
end

-- Write tiles: each is a run, or (nil, the run it is folded into, the names and values of its event).
-- Return whether a run was added that waits.
local function write_tiles(row, tiles, folds)
  local waits = false
  extend(folds)
  for _, tile in ipairs(tiles) do
    if tile[1] then
      fire(row, tile)
      waits = waits or tile[2] == 'waiting'
    else
      local fields = tile[3]
      local size = #fields
      local standing = {'at', now, 'schedule_id', row.id, 'schedule', row.name}
      for index, value in ipairs(standing) do
        fields[size + index] = value
      end
      tell(fields, row.id, row.name, tile[2], true)
    end
  end
  return waits
end

-- --- schedules ---

local UNDER = {'id', 'name', 'number', 'version', 'queue', 'target', 'priority', 'shard'}

-- An event's names and values; nil where it was forgotten.
local function event_of(id)
  local event = call('XRANGE', ns .. 'events', id .. '-0', id .. '-0')[1]
  local named = {}
  for field = 1, event and #event[2] or 0, 2 do
    named[event[2][field]] = event[2][field + 1]
  end
  return event and named
end

-- How a schedule is called among those that are due: of two due at one instant the smaller id comes first, and
-- whoever serves a share sees whose it is without reading the row.
local function due_name(id, shard)
  return string.format('%016d:%05d', id, shard)
end

local function all(key)
  return call('HGETALL', ns .. key)
end

-- Return all that is known of a schedule: row, newest change, definition. The row of a purged one is empty.
local function picture(schedule_id)
  local number, newest = unpack(call('HMGET', ns .. 'schedule:' .. schedule_id, 'number', 'change'))
  newest = newest or call('LINDEX', ns .. 'trail:' .. schedule_id, -1)
  if not newest then
    return false
  end
  number = number or call('HGET', ns .. 'change:' .. newest, 'number')
  return {
    all('schedule:' .. schedule_id), all('change:' .. newest),
    all('definition:' .. schedule_id .. ':' .. (number or '')),
  }
end
