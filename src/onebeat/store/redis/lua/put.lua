-- args: the edits, each with what it expects and all that it writes; see edit_cells in cells.py.
local CUT_AGE_MAX = tonumber(args[2])

local wrong = wrong_place()
if wrong then
  return wrong
end

-- Where a name stands: its id, and of its row (or, where that was purged, of its last change) what is compared.
local function standing(name)
  local schedule_id = call('HGET', ns .. 'names', name)
  if not schedule_id then
    return nil
  end
  local row = read('schedule:' .. schedule_id, {
    'version', 'cut_at', 'settled_until', 'next_at', 'shard', 'number', 'target', 'dormant',
  })
  if not row.version then
    local newest = call('LINDEX', ns .. 'trail:' .. schedule_id, -1)
    row = read('change:' .. newest, {'version', 'cut_at', 'settled_until', 'number'})
    row.purged = true
  end
  row.id = schedule_id
  return row
end

-- Return the answer to an edit that changes nothing, or nil and where its name stands.
local function misfit(edit)
  if call('EXISTS', ns .. 'change:' .. edit.id) == 1 then
    local schedule_id, number, version, cut_at = unpack(
      values('change:' .. edit.id, {'schedule_id', 'number', 'version', 'cut_at'})
    )
    answer(edit.entry_id, {'answer', 'accepted', 'version', version or '', 'cut_at', cut_at or ''})
    local definition = all('definition:' .. (schedule_id or '') .. ':' .. (number or ''))
    return {'repeated', {{}, all('change:' .. edit.id), definition}}
  end
  local row = standing(edit.name)
  local latest = math.max(clock, row and tonumber(row.cut_at or '0') or clock)
  local cut = tonumber(edit.cut_at)
  local fits = edit.expected == (row and row.version or '0')
  local stopped = (edit.fires and call('HEXISTS', META, 'hold') == 1) or not asks(edit.entry_id)
  if fits and cut <= latest and clock - cut <= CUT_AGE_MAX and not stopped and all_wait(edit.folds) then
    return nil, row
  end
  return {'stale', row and picture(row.id) or false}
end

local answers, before = {}, {}
for index, edit in ipairs(args[1]) do
  answers[index], before[index] = misfit(edit)
  if not answers[index] then
    local known = known_tile(edit.tiles)
    for _, new in ipairs(edit.requests) do
      known = known or known_run(new)
    end
    if known then
      return known
    end
  end
end

-- Return what a definition says of the runs that are fired under it.
local function under(schedule_id, name, number)
  local row = read('definition:' .. schedule_id .. ':' .. number, {'queue', 'key', 'priority', 'max_running'})
  return {
    id = schedule_id, name = name, number = number, queue = row.queue, target = row.key,
    priority = row.priority, max_running = row.max_running,
  }
end

-- Write what the old definition owed, and cancel what the edit leaves no place for.
local function settle_old(edit, row)
  if edit.cancel_older then
    cancel_unfinished(row.id, 'replaced by a newer occurrence')
  end
  if edit.cancel_waiting then
    cancel(call('ZRANGE', ns .. 'waiting:' .. row.id, 0, -1), 'its schedule was deleted')
  end
  if #edit.tiles > 0 then
    write_tiles(under(row.id, edit.name, row.number), edit.tiles, edit.folds)
  end
end

-- Count a schedule under its target: workers resolve what is wanted by a schedule or a run.
local function count_target(target, by)
  if target and call('HINCRBY', ns .. 'targets', target, by) == 0 then
    call('HDEL', ns .. 'targets', target)
  end
end

local function gauge(name, schedule_id, is)
  call(is and 'SADD' or 'SREM', ns .. name, schedule_id)
end

local function write_row(edit, row, schedule_id, fires)
  local key = ns .. 'schedule:' .. schedule_id
  call('HDEL', key, 'next_at', 'skips', 'max_running') -- and not what a newer node has added
  call('HSET', key, 'id', schedule_id, 'name', edit.name, 'shard', edit.shard, 'change', edit.id,
    'queue', fires.queue, 'target', fires.target, 'priority', fires.priority, unpack(edit.row))
  if fires.max_running then
    call('HSET', key, 'max_running', fires.max_running)
  end
  local due = due_name(schedule_id, edit.shard)
  if edit.next_at and edit.awake then
    call('ZADD', ns .. 'due', edit.next_at, due)
  else
    call('ZREM', ns .. 'due', due)
  end
  if not row or row.purged then
    call('HSET', ns .. 'names', edit.name, schedule_id)
    call('ZADD', ns .. 'schedules', 0, edit.name)
    call('ZADD', ns .. 'rows', schedule_id, schedule_id)
  end
  gauge('deleted', schedule_id, edit.deleted)
  gauge('paused', schedule_id, edit.paused and not edit.deleted)
  gauge('quarantined', schedule_id, edit.quarantined and not edit.deleted)
  if row and not row.purged and tonumber(row.dormant) < 4 then
    count_target(row.target, -1)
  end
  if not edit.deleted then
    count_target(fires.target, 1)
  end
end

local function write_change(edit, schedule_id)
  local key = ns .. 'change:' .. edit.id
  call('HSET', key, 'schedule_id', schedule_id, 'committed_at', now, unpack(edit.change))
  call('RPUSH', ns .. 'trail:' .. schedule_id, edit.id)
end

-- The event of the action carries the stretch up to the boundary that held nothing.
local function tell_put(edit, row, schedule_id)
  local fields = {'at', now, 'schedule_id', schedule_id, 'schedule', edit.name, unpack(edit.event)}
  local mark = row and (edit.mark or row.settled_until)
  local stretches = mark and tonumber(mark) < tonumber(edit.boundary_at)
  if stretches then
    for _, value in ipairs({'mark_before', mark, 'mark_after', edit.boundary_at, 'count', '0'}) do
      fields[#fields + 1] = value
    end
  end
  tell(fields, schedule_id, edit.name, nil, stretches)
end

for index, edit in ipairs(args[1]) do
  if not answers[index] then
    local row = before[index]
    local schedule_id = row and row.id or whole(count('last_schedule'))
    if row then
      settle_old(edit, row)
    end
    local kept = false
    local definition = 'definition:' .. schedule_id .. ':' .. edit.number
    if call('EXISTS', ns .. definition) == 1 then
      kept = all(definition)
    else
      call('HSET', ns .. definition, unpack(edit.definition))
    end
    local fires = under(schedule_id, edit.name, edit.number)
    write_row(edit, row, schedule_id, fires)
    write_change(edit, schedule_id)
    tell_put(edit, row, schedule_id)
    for _, new in ipairs(edit.requests) do
      fire(fires, new)
    end
    promote(schedule_id)
    answer(edit.entry_id, {'answer', 'accepted', 'version', edit.version, 'cut_at', edit.cut_at})
    answers[index] = {'accepted', schedule_id, kept}
  end
end
news = true
return {answers, finish()}
