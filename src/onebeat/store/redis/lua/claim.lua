-- args: holder, queues, targets, limit, until, definitions that the caller cannot read, until when at most it sends
-- (or false: it leases), and what its last claim should not have sent: runs, and until when.
local holder, queues, targets, limit, till, unreadable, till_max, unsent = unpack(args, 1, 8)
local wrong = wrong_place()
if wrong then
  return wrong
end

local function set_of(names)
  local set = {}
  for _, name in ipairs(names) do
    set[name] = true
  end
  return set
end
queues, targets, unreadable = set_of(queues), set_of(targets), set_of(unreadable)

for _, sent in ipairs(unsent) do
  local run = run_of(sent[1])
  if run and run.state == 'sent' and run.resend_at == sent[2] then
    change(run, {state = 'ready', resend_at = false})
  end
end
flush() -- first: their groups have none out then

-- Lanes of one priority are gone through together; the highest priority first. Of a group that has none out, all
-- lanes are: its first run may be in one that is not wanted here, and then it is none of ours.
local levels, level = {}, nil
local open = {} -- group -> whether it has none out; of groups that have lanes that are wanted
local all_lanes = {}
for _, lane in ipairs(call('ZRANGE', ns .. 'lanes', 0, -1)) do
  local priority, size, rest = lane:match('^(-?%d+):(%d+):(.*)$')
  size = tonumber(size)
  local queue, group = rest:sub(1, size), nil
  if queue:find('!', 1, true) then
    queue, group = queue:match('^(.-)!(.+)$')
  end
  local wanted = queues[queue] and targets[rest:sub(size + 2)]
  if wanted and group and open[group] == nil then
    open[group] = not has_one_out(group)
  end
  if wanted or group then
    all_lanes[#all_lanes + 1] = {lane, priority, group, wanted}
  end
end
for _, each in ipairs(all_lanes) do
  local lane, priority, group, wanted = unpack(each, 1, 4)
  if not group or open[group] then
    if level == nil or level.priority ~= priority then
      level = {priority = priority}
      levels[#levels + 1] = level
    end
    level[#level + 1] = {name = lane, group = group, wanted = wanted}
  end
end

local function claimable(run)
  return not too_late(run) and not unreadable[run.schedule_id .. ':' .. run.number]
end

-- Add to `found` at most `room` runs of a lane: those that have been ready for longest; of a group one.
local function gather(lane, room, found)
  if lane.group then
    room = open[lane.group] and math.min(room, 1) or 0
  end
  local skipped = 0
  local key = ns .. 'ready:' .. lane.name
  while room > 0 do
    local page = call('ZRANGEBYSCORE', key, '-inf', clock, 'WITHSCORES', 'LIMIT', skipped, room)
    if #page == 0 then
      return
    end
    for index = 1, #page, 2 do
      local run = run_of(page[index])
      if run and claimable(run) then
        found[#found + 1] = {tonumber(page[index + 1]), run.id, run, lane}
        room = room - 1
      end
    end
    skipped = skipped + #page / 2
  end
end

local function longest_ready(one, other)
  if one[1] ~= other[1] then
    return one[1] < other[1]
  end
  return one[2] < other[2]
end

local claimed = {}
for _, lanes in ipairs(levels) do
  local found = {}
  for _, lane in ipairs(lanes) do
    gather(lane, limit - #claimed, found)
  end
  if #lanes > 1 then
    table.sort(found, longest_ready)
  end
  for _, each in ipairs(found) do
    local run, lane = each[3], each[4]
    local takes = lane.wanted and (not lane.group or open[lane.group])
    if lane.group then
      open[lane.group] = false -- this was its first one
    end
    if takes and #claimed < limit then
      claimed[#claimed + 1] = run
    end
  end
  if #claimed >= limit then
    break
  end
end

local runs, definitions, named = {}, {}, {}
for index, run in ipairs(claimed) do
  change(run, till_max and marked(resent(run, till, till_max)) or leased(run, holder, till, next_token()))
  runs[index] = run
  local definition = run.schedule_id .. ':' .. run.number
  if not named[definition] then
    named[definition] = true
    local cells = values('definition:' .. definition, {'trigger', 'policy', 'title', 'tags', 'target'})
    definitions[#definitions + 1] = {definition, cells}
  end
end
return cmsgpack.pack({runs, definitions, finish()})
