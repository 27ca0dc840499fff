-- args: the instant, how many, the share: which, of how many (or nil), how many to pass by. Returns rows, the next
-- instant, how many were passed by or taken, and whether the inbox holds an entry.
local at, limit, index, of = tonumber(args[1]), args[2], args[3], args[4]
-- Whatever a hand has put in its place, settling goes on.
local entries = call('TYPE', ns .. 'inbox').ok == 'stream' and call('XLEN', ns .. 'inbox') > 0
if call('HEXISTS', META, 'hold') == 1 then
  return cmsgpack.pack({{}, false, 0, entries})
end

local function shared(member)
  return not of or tonumber(member:sub(18)) % of == index
end

local function row_of(id)
  local row = values('schedule:' .. id, {
    'id', 'name', 'incarnation', 'version', 'settled_until', 'next_at', 'skips', 'number', 'max_running',
  })
  local trigger, policy = unpack(values('definition:' .. id .. ':' .. (row[8] or ''), {'trigger', 'policy'}))
  row[8], row[10] = trigger, policy
  row[11], row[12], row[13] = 0, 0, false
  if row[9] then
    row[11] = call('ZCARD', ns .. 'live:' .. id)
    row[12] = call('ZCARD', ns .. 'waiting:' .. id)
    row[13] = row[12] > 0 and call('ZRANGE', ns .. 'waiting:' .. id, -1, -1)[1]
  end
  return row
end

local PAGE = 1000
local rows, skipped = {}, args[5]
local more = true
while more and #rows < limit do
  local size = of and PAGE or math.min(PAGE, limit - #rows)
  local page = call('ZRANGEBYSCORE', ns .. 'due', '-inf', args[1], 'LIMIT', skipped, size)
  more = #page == size
  for _, member in ipairs(page) do
    if #rows == limit then
      break
    end
    skipped = skipped + 1
    if shared(member) then
      rows[#rows + 1] = row_of(whole(tonumber(member:sub(1, 16))))
    end
  end
end

local following = false
local passed_by = 0
repeat
  local page = call('ZRANGEBYSCORE', ns .. 'due', '(' .. args[1], '+inf', 'LIMIT', passed_by, 16)
  for _, member in ipairs(page) do
    if not following and shared(member) then
      local id = whole(tonumber(member:sub(1, 16)))
      following = call('HGET', ns .. 'schedule:' .. id, 'next_at')
    end
  end
  passed_by = passed_by + #page
until following or #page < 16 or passed_by > 65536
return cmsgpack.pack({rows, following, skipped, entries})
