-- args: the instant up to which was decided; the decisions, each: schedule, version, mark, next (or nil),
-- skips (nil: as they are, '': none), whether older runs are cancelled, tiles, folds into runs that wait already.
local up_to, decisions = args[1], args[2]
if clock < tonumber(up_to) then
  return {'early', now}
end
if call('HEXISTS', META, 'hold') == 1 then
  return {'held', now}
end
local wrong = wrong_place()
if wrong then
  return wrong
end

local won, rows = {}, {}
for index, decision in ipairs(decisions) do
  local row = read('schedule:' .. decision[1], UNDER)
  won[index] = row.version == decision[2] and all_wait(decision[8]) and 1 or 0
  if won[index] == 1 then
    rows[index] = row
    local known = known_tile(decision[7])
    if known then
      return known
    end
  end
end

local queued, gone = {}, {}
for index, row in pairs(rows) do
  if decisions[index][6] then
    cancel_unfinished(row.id, 'replaced by a newer occurrence')
  end
end
for index, decision in ipairs(decisions) do
  local row = rows[index]
  if row then
    local _, _, mark, next_at, skips, cancels, tiles, folds = unpack(decision, 1, 8)
    local key = ns .. 'schedule:' .. row.id
    local member = due_name(row.id, row.shard)
    if write_tiles(row, tiles, folds) or cancels then
      queued[#queued + 1] = row.id
    end
    local version = whole(tonumber(row.version) + 1)
    if next_at then
      call('HSET', key, 'version', version, 'settled_until', mark, 'next_at', next_at)
      zadd('due', next_at, member)
    else
      call('HSET', key, 'version', version, 'settled_until', mark)
      call('HDEL', key, 'next_at')
      gone[#gone + 1] = member
    end
    if skips == '' then
      call('HDEL', key, 'skips')
    elseif skips then
      call('HSET', key, 'skips', skips)
    end
  end
end
for from = 1, #gone, 1000 do
  call('ZREM', ns .. 'due', unpack(gone, from, math.min(from + 999, #gone)))
end
for _, schedule_id in ipairs(queued) do
  promote(schedule_id)
end
return {'won', now, won, finish()}
