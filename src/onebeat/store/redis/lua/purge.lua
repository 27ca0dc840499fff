-- args: the instant; the schedules, each: id, version, runs, events, whether the row goes. A run or event is its
-- id, the day in whose summary it is counted (or nil), and its tile's bounds and count. Only what is still there
-- is deleted and counted: two nodes that purge at once count nothing twice. Returns what was forgotten of each.
local wrong = wrong_place()
if wrong then
  return wrong
end

local function summarise(schedule_id, day, before, after, fired, folded, skipped)
  local key = ns .. 'summaries:' .. schedule_id
  local sums = {0, 0, 0, before, after}
  local known = call('HGET', key, day)
  if known then
    sums = {known:match('^(%d+) (%d+) (%d+) (-?%d+) (-?%d+)$')}
  end
  if tonumber(before) < tonumber(sums[4]) then
    sums[4] = before
  end
  if tonumber(after) > tonumber(sums[5]) then
    sums[5] = after
  end
  call('HSET', key, day, string.format(
    '%d %d %d %s %s', sums[1] + fired, sums[2] + folded, sums[3] + skipped, sums[4], sums[5]
  ))
end

local function forget_event(id, event)
  call('XDEL', ns .. 'events', id .. '-0')
  if event.schedule_id then
    call('ZREM', ns .. 'tiles:' .. event.schedule_id, id)
  end
  if event.schedule then
    call('ZREM', ns .. 'events:' .. event.schedule, id)
  end
  if event.run_id then
    call('ZREM', ns .. 'run-events:' .. event.run_id, id)
  end
end

local function forget_run(schedule_id, item)
  local id, day, before, after, number = unpack(item, 1, 5)
  local state = call('HGET', ns .. 'run:' .. id, 'state')
  if not state or not FINISHED[state] then
    return 0
  end
  for _, own in ipairs(call('ZRANGE', ns .. 'run-events:' .. id, 0, -1)) do
    local event = event_of(own)
    if event and not event.mark_before then
      forget_event(own, event)
    end
  end
  call('DEL', ns .. 'run:' .. id, ns .. 'log:' .. id)
  call('ZREM', ns .. 'ended:' .. schedule_id, id)
  call('ZREM', ns .. 'state:' .. state, id)
  if day then
    summarise(schedule_id, day, before, after, 1, number - 1, 0)
  end
  return 1
end

local function forget_settlement(schedule_id, item)
  local id, day, before, after, number = unpack(item, 1, 5)
  local event = event_of(id)
  if not event then
    return 0
  end
  forget_event(id, event)
  local into = event.run_id ~= nil
  summarise(schedule_id, day, before, after, 0, into and number or 0, into and 0 or number)
  return 1
end

local function has_history(id)
  for _, key in ipairs({'ended:', 'live:', 'waiting:'}) do
    if call('EXISTS', ns .. key .. id) == 1 then
      return true
    end
  end
  for _, event in ipairs(call('ZRANGE', ns .. 'tiles:' .. id, 0, -1)) do
    if ((event_of(event) or {}).count or '0') ~= '0' then
      return true
    end
  end
  return false
end

-- Take a row out of the table, if nothing happened to it. The trail goes on knowing its name, id, version and mark.
local function bury(id, version)
  local row = read('schedule:' .. id, {
    'version', 'name', 'incarnation', 'number', 'cut_at', 'settled_until', 'change', 'dormant', 'target', 'shard',
  })
  if row.version ~= version or has_history(id) then
    return 0
  end
  local edit = 'purge:' .. id .. ':' .. version
  local zones, created_at, owner, revision = unpack(values(
    'change:' .. row.change, {'tz_version', 'created_at', 'owner', 'revision'}
  ), 1, 4)
  call('HSET', ns .. 'change:' .. edit, 'edit_id', edit, 'schedule_id', id, 'schedule', row.name,
    'incarnation', row.incarnation, 'version', whole(tonumber(version) + 1), 'number', row.number,
    'action', 'schedule.purged', 'cut_at', row.cut_at, 'boundary_at', row.settled_until,
    'committed_at', args[1], 'settled_until', row.settled_until, 'deleted', '1',
    'owner', owner or '', 'revision', revision or '0', 'tz_version', zones or '', 'created_at', created_at or args[1])
  call('RPUSH', ns .. 'trail:' .. id, edit)
  call('DEL', ns .. 'schedule:' .. id)
  call('ZREM', ns .. 'schedules', row.name)
  call('ZREM', ns .. 'rows', id)
  call('ZREM', ns .. 'due', due_name(id, row.shard))
  for _, gauge in ipairs({'deleted', 'paused', 'quarantined'}) do
    call('SREM', ns .. gauge, id)
  end
  if tonumber(row.dormant) < 4 and call('HINCRBY', ns .. 'targets', row.target, -1) == 0 then
    call('HDEL', ns .. 'targets', row.target)
  end
  return 1
end

local answers = {}
for index, schedule in ipairs(args[2]) do
  local id, version, runs, events, over = unpack(schedule, 1, 5)
  local sums = {0, 0, 0}
  for _, item in ipairs(runs) do
    sums[1] = sums[1] + forget_run(id, item)
  end
  for _, item in ipairs(events) do
    sums[2] = sums[2] + forget_settlement(id, item)
  end
  if over then
    sums[3] = bury(id, version)
  end
  answers[index] = sums
end
return answers
