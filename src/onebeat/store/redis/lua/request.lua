-- args: the requests, each: schedule, expected version, the run, the names and values of the event, the entry of
-- the inbox that asks for it (or '').
local wrong = wrong_place()
if wrong then
  return wrong
end

-- Of each schedule, the version that its first request expects, and how many were accepted: one that counts on
-- another which was not would find the version that it expects, and not the row that it was admitted against.
local first, accepted = {}, {}
local answers = {}
for index, request in ipairs(args[1]) do
  local schedule_id, expected, new, fields, entry_id = unpack(request, 1, 5)
  local row = read('schedule:' .. schedule_id, UNDER)
  first[schedule_id] = first[schedule_id] or tonumber(expected)
  local holds = tonumber(expected) - first[schedule_id] <= (accepted[schedule_id] or 0)
  if call('EXISTS', ns .. 'run:' .. new[1]) == 1 then
    answer(entry_id, {'answer', 'accepted', 'run_id', new[1]})
    answers[index] = 'repeated'
  elseif row.version ~= expected or not holds or not asks(entry_id) then
    answers[index] = 'stale'
  else
    local version = whole(tonumber(row.version) + 1)
    fire(row, new)
    call('HSET', ns .. 'schedule:' .. schedule_id, 'version', version)
    tell({'at', now, 'schedule_id', row.id, 'schedule', row.name, unpack(fields)}, row.id, row.name, new[1])
    promote(row.id)
    answer(entry_id, {'answer', 'accepted', 'run_id', new[1], 'version', version})
    accepted[schedule_id] = (accepted[schedule_id] or 0) + 1
    answers[index] = 'accepted'
  end
end
return {answers, finish()}
