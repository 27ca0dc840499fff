-- The questions of the reader. args: which one, and what it needs. Each answer is one picture: a script is alone.
local ask = {}
local PAGE = 500

-- --- schedules ---

local function load_of(schedule_id)
  local waiting = 'waiting:' .. schedule_id
  local last = call('ZRANGE', ns .. waiting, -1, -1)[1]
  return {call('ZCARD', ns .. 'live:' .. schedule_id), call('ZCARD', ns .. waiting), last or false}
end

-- Of each name that was ever used: its picture, and its load.
function ask.owing(names)
  local found = {}
  for _, name in ipairs(names) do
    local schedule_id = call('HGET', ns .. 'names', name)
    local seen = schedule_id and picture(schedule_id)
    if seen then
      found[#found + 1] = {seen, load_of(schedule_id)}
    end
  end
  return found
end

local function pictures(names)
  local found = {}
  for _, name in ipairs(names) do
    local schedule_id = call('HGET', ns .. 'names', name)
    if schedule_id and call('EXISTS', ns .. 'schedule:' .. schedule_id) == 1 then
      found[#found + 1] = picture(schedule_id)
    end
  end
  return found
end

-- The rows of these names, or (nil) of the next ones after a name; and the name to go on from.
function ask.schedules(names, after, limit)
  if names then
    return {pictures(names), false}
  end
  names = call('ZRANGEBYLEX', ns .. 'schedules', after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit)
  return {pictures(names), #names == limit and names[#names] or false}
end

function ask.soonest(limit)
  local found = {}
  for index, member in ipairs(call('ZRANGE', ns .. 'due', 0, limit - 1)) do
    found[index] = picture(whole(tonumber(member:sub(1, 16))))
  end
  return found
end

function ask.definition(schedule_id, number)
  return all('definition:' .. schedule_id .. ':' .. number)
end

function ask.trail(schedule_id)
  local found = {}
  for index, edit in ipairs(call('LRANGE', ns .. 'trail:' .. schedule_id, 0, -1)) do
    local number = call('HGET', ns .. 'change:' .. edit, 'number') or ''
    found[index] = {all('change:' .. edit), all('definition:' .. schedule_id .. ':' .. number)}
  end
  return found
end

-- --- runs ---

local function whole_run(id)
  local run = all('run:' .. id)
  run[#run + 1] = 'id'
  run[#run + 1] = id
  return run
end

function ask.run(id)
  return call('EXISTS', ns .. 'run:' .. id) == 1 and whole_run(id)
end

-- What the next page of runs is taken from: pairs of number and id, the newest first.
local function newest(schedule_id, states, below)
  local found, keys = {}, {}
  local top = below and '(' .. below or '+inf'
  if schedule_id then
    keys = {'live:' .. schedule_id, 'ended:' .. schedule_id}
    for _, id in ipairs(call('ZRANGE', ns .. 'waiting:' .. schedule_id, 0, -1)) do
      local seq = tonumber(call('HGET', ns .. 'run:' .. id, 'seq'))
      if not below or seq < tonumber(below) then
        found[#found + 1] = {seq, id}
      end
    end
  else
    for index, state in ipairs(states) do
      keys[index] = 'state:' .. state
    end
  end
  for _, key in ipairs(keys) do
    local page = call('ZREVRANGEBYSCORE', ns .. key, top, '-inf', 'WITHSCORES', 'LIMIT', 0, PAGE)
    for index = 1, #page, 2 do
      found[#found + 1] = {tonumber(page[index + 1]), page[index]}
    end
  end
  table.sort(found, function(one, other) return one[1] > other[1] end)
  return found
end

-- Runs below a run or a number; of one schedule or of all; in these states; due from and to. Each with its
-- definition's tags. Returns at most `limit`, and the number to go on below.
function ask.runs(schedule, states, before, below, due_from, due_to, limit)
  local schedule_id = nil
  if schedule then
    schedule_id = call('HGET', ns .. 'names', schedule)
    if not schedule_id then
      return {{}, false}
    end
  end
  if before then
    below = call('HGET', ns .. 'run:' .. before, 'seq')
    if not below then
      return {{}, false}
    end
  end
  local wanted = {}
  for _, state in ipairs(states) do
    wanted[state] = true
  end
  local found = {}
  local candidates = newest(schedule_id, states, below)
  for index = 1, math.min(#candidates, PAGE) do
    local seq, id = candidates[index][1], candidates[index][2]
    local state, due_at, owner, number = unpack(
      values('run:' .. id, {'state', 'due_at', 'schedule_id', 'number'})
    )
    local due = tonumber(due_at or '0')
    if wanted[state] and (not due_from or due >= tonumber(due_from)) and (not due_to or due < tonumber(due_to)) then
      local tags = call('HGET', ns .. 'definition:' .. owner .. ':' .. number, 'tags')
      found[#found + 1] = {whole_run(id), tags or ''}
    end
    if #found == limit or (index == PAGE and index < #candidates) then
      return {found, whole(seq)}
    end
  end
  return {found, #candidates >= PAGE and whole(candidates[#candidates][1]) or false}
end

function ask.log(id)
  return call('LRANGE', ns .. 'log:' .. id, 0, -1)
end

-- Runs that time has overtaken, each with its policy, the longest overdue first.
function ask.lost(at, limit)
  local found, skipped = {}, 0
  repeat
    local page = call('ZRANGEBYSCORE', ns .. 'watch', '-inf', at, 'LIMIT', skipped, PAGE)
    for _, id in ipairs(page) do
      local state, deadline, owner, number = unpack(
        values('run:' .. id, {'state', 'deadline_at', 'schedule_id', 'number'})
      )
      -- At its deadline itself a run may still start.
      local over = state == 'running' or state == 'sent' or (deadline and tonumber(deadline) < tonumber(at))
      if over and #found < limit then
        local policy = call('HGET', ns .. 'definition:' .. owner .. ':' .. number, 'policy')
        found[#found + 1] = {whole_run(id), policy}
      end
    end
    skipped = skipped + #page
  until #page < PAGE or #found >= limit
  return found
end

-- --- events and the proof ---

-- Events after one, that fit; at most `limit`. Returns them, and the one to go on after (false: none is left).
function ask.events(after, kinds, schedule, run_id, limit)
  local wanted = kinds and {}
  for _, kind in ipairs(kinds or {}) do
    wanted[kind] = true
  end
  local index = (run_id and 'run-events:' .. run_id) or (schedule and 'events:' .. schedule)
  local page
  if index then
    page = call('ZRANGEBYSCORE', ns .. index, '(' .. after, '+inf', 'LIMIT', 0, PAGE)
  else
    page = call('XRANGE', ns .. 'events', '(' .. after .. '-0', '+', 'COUNT', PAGE)
  end
  local found, last = {}, false
  for _, each in ipairs(page) do
    local event = each
    if index then
      event = call('XRANGE', ns .. 'events', each .. '-0', each .. '-0')[1]
    end
    last = index and each or event[1]:match('^%d+')
    local named = {}
    for field = 1, event and #event[2] or 0, 2 do
      named[event[2][field]] = event[2][field + 1]
    end
    if event and (not wanted or wanted[named.kind]) and (not schedule or named.schedule == schedule)
      and (not run_id or named.run_id == run_id) then
      found[#found + 1] = event
      if #found == limit then
        return {found, last}
      end
    end
  end
  return {found, #page == PAGE and last}
end

local TILE = {'mark_before', 'mark_after', 'count', 'occurrence_at', 'due_at', 'created_at'}

-- Add the tile of a run, if it has one that touches the interval.
local function add_tile(found, id, since, till)
  local tile = values('run:' .. id, TILE)
  if tile[1] and tile[2] and tonumber(tile[2]) > since and tonumber(tile[1]) < till then
    tile[7] = id
    found[#found + 1] = tile
  end
end

-- The tiles of unfinished runs, and up to which run and event the rest of this picture goes.
function ask.tiles(schedule_id, since, till)
  local found = {}
  for _, key in ipairs({'live:', 'waiting:'}) do
    for _, id in ipairs(call('ZRANGE', ns .. key .. schedule_id, 0, -1)) do
      add_tile(found, id, tonumber(since), tonumber(till))
    end
  end
  local last_run, last_event = unpack(call('HMGET', META, 'last_run', 'last_event'))
  return {found, last_run or '0', last_event or '0'}
end

-- A page of the tiles of ended runs after one number up to another, and the number to go on after.
function ask.ended(schedule_id, since, till, after, last)
  local page = call(
    'ZRANGEBYSCORE', ns .. 'ended:' .. schedule_id, '(' .. after, last, 'WITHSCORES', 'LIMIT', 0, PAGE
  )
  local found = {}
  for index = 1, #page, 2 do
    add_tile(found, page[index], tonumber(since), tonumber(till))
  end
  return {found, #page == 2 * PAGE and page[#page]}
end

-- The same of settlement events, and of changes that settled up to their boundary.
function ask.settled(schedule_id, after, last)
  local page = call('ZRANGEBYSCORE', ns .. 'tiles:' .. schedule_id, '(' .. after, last, 'LIMIT', 0, PAGE)
  local found = {}
  for index, id in ipairs(page) do
    found[index] = call('XRANGE', ns .. 'events', id .. '-0', id .. '-0')[1]
  end
  return {found, #page == PAGE and page[#page]}
end

-- The day summaries, and where the first change of a schedule began.
function ask.summaries(schedule_id)
  local first = call('LINDEX', ns .. 'trail:' .. schedule_id, 0)
  return {all('summaries:' .. schedule_id), first and call('HGET', ns .. 'change:' .. first, 'boundary_at')}
end

-- --- nodes and the whole ---

function ask.nodes()
  local found = {}
  for _, id in ipairs(call('ZREVRANGE', ns .. 'nodes', 0, -1)) do
    local node = all('node:' .. id)
    if #node > 0 then -- else a hand has deleted it: it is back when it next announces itself
      found[#found + 1] = node
    end
  end
  return found
end

function ask.targets()
  return {call('HKEYS', ns .. 'targets'), call('HKEYS', ns .. 'unfinished')}
end

-- Parked runs that a node alive could run, then ready ones that none could; at most `limit`.
function ask.strays(at, limit)
  local known = {}
  for _, id in ipairs(call('ZRANGE', ns .. 'nodes', 0, -1)) do
    local till, targets = unpack(values('node:' .. id, {'alive_until', 'targets'}))
    if till and targets and tonumber(till) > tonumber(at) then
      for _, target in ipairs(cjson.decode(targets)) do
        known[target] = true
      end
    end
  end
  local found = {}
  for _, id in ipairs(call('ZRANGE', ns .. 'state:parked', 0, -1)) do
    if #found < limit and known[call('HGET', ns .. 'run:' .. id, 'target')] then
      found[#found + 1] = {whole_run(id), 1}
    end
  end
  for _, lane in ipairs(call('ZRANGE', ns .. 'lanes', 0, -1)) do
    local size, rest = lane:match('^-?%d+:(%d+):(.*)$')
    if #found < limit and not known[rest:sub(tonumber(size) + 2)] then
      for _, id in ipairs(call('ZRANGE', ns .. 'ready:' .. lane, 0, limit - #found - 1)) do
        found[#found + 1] = {whole_run(id), 0}
      end
    end
  end
  return found
end

function ask.held()
  return call('HGET', META, 'hold')
end

function ask.counts(states)
  local runs = {}
  for index, state in ipairs(states) do
    runs[index] = call('ZCARD', ns .. 'state:' .. state)
  end
  local schedules = call('ZCARD', ns .. 'schedules') - call('SCARD', ns .. 'deleted')
  return {
    runs, schedules, call('SCARD', ns .. 'paused'), call('SCARD', ns .. 'quarantined'),
    call('ZCOUNT', ns .. 'due', '-inf', now),
  }
end

-- --- what may be forgotten ---

-- Rows from an id on, light.
function ask.visited(from_id, limit)
  local found = {}
  for index, id in ipairs(call('ZRANGEBYSCORE', ns .. 'rows', from_id, '+inf', 'LIMIT', 0, limit)) do
    local row = values('schedule:' .. id, {'version', 'next_at', 'dormant', 'cut_at', 'number', 'change'})
    local owner = call('HGET', ns .. 'change:' .. (row[6] or ''), 'owner')
    local documents = values('definition:' .. id .. ':' .. (row[5] or ''), {'policy', 'trigger'})
    found[index] = {id, row[1], row[2], row[3], row[4], owner, documents[1], documents[2]}
  end
  return found
end

local function settlements(schedule_id)
  local number = 0
  for _, id in ipairs(call('ZRANGE', ns .. 'tiles:' .. schedule_id, 0, -1)) do
    if ((event_of(id) or {}).count or '0') ~= '0' then
      number = number + 1
    end
  end
  return number
end

-- Whether something is beyond a history: too old, or followed by enough finished runs. And whether all that is
-- younger is within it.
local function beyond(keep, created_at, ended_at)
  local created, over = tonumber(created_at), tonumber(ended_at) < keep.since
  if keep.runs == 0 or over or (keep.crowded and created < keep.crowded) then
    return true, false
  end
  return false, created >= math.max(keep.since, keep.crowded or created)
end

-- Of each schedule (id, since when, how many runs, how many items, whether its row might go): at most so many
-- finished runs and settlement events beyond its history, each the oldest first; and how much history there is.
function ask.beyond(schedules)
  local answers = {}
  for index, each in ipairs(schedules) do
    local id, since, keep_runs, room, ending = unpack(each, 1, 5)
    local keep = {since = tonumber(since), runs = keep_runs}
    if keep_runs > 0 then
      local last = call('ZRANGE', ns .. 'ended:' .. id, -keep_runs, -keep_runs)[1]
      keep.crowded = last and tonumber(call('HGET', ns .. 'run:' .. last, 'created_at'))
    end
    local runs, events = {}, {}
    local skipped, within = 0, false
    while #runs < room and not within do
      local page = call('ZRANGE', ns .. 'ended:' .. id, skipped, skipped + 99)
      within = #page == 0
      for _, run in ipairs(page) do
        local row = values('run:' .. run, {'created_at', 'finished_at', 'mark_before', 'mark_after', 'count'})
        local goes, rest_stays = beyond(keep, row[1], row[2])
        within = within or rest_stays
        if goes and #runs < room and not within then
          runs[#runs + 1] = {row[1], run, row[3], row[4], row[5]}
        end
      end
      skipped = skipped + #page
    end
    skipped, within = 0, false
    while #events < room and not within do
      local page = call('ZRANGE', ns .. 'tiles:' .. id, skipped, skipped + 99)
      within = #page == 0
      for _, event_id in ipairs(page) do
        local event = event_of(event_id) or {}
        if (event.count or '0') ~= '0' then
          local goes, rest_stays = beyond(keep, event.at, event.at)
          within = within or rest_stays
          if goes and #events < room and not within then
            events[#events + 1] = {
              event.at, event_id, event.mark_before, event.mark_after, event.count, event.run_id or false,
            }
          end
        end
      end
      skipped = skipped + #page
    end
    local history = -1
    if ending then
      history = call('ZCARD', ns .. 'ended:' .. id) + call('ZCARD', ns .. 'live:' .. id)
        + call('ZCARD', ns .. 'waiting:' .. id) + settlements(id)
    end
    answers[index] = {runs, events, history}
  end
  return answers
end

return ask[args[1]](unpack(args, 2, 9))
