-- args: the transitions, each a move's name and what it needs, and the event that it leaves.
local wrong = wrong_place()
if wrong then
  return wrong
end

-- Every run is looked at before the first is moved. Of those whose holder only begins or renews, which are
-- most, no more is read than that needs.
local HELD = {'state', 'token', 'lease_until', 'deadline_at', 'started_at', 'cancel_requested'}
local KEEPS = {start = true, renew = true}
local held = {}
for _, step in ipairs(args[1]) do
  if not KEEPS[step.kind] then
    run_of(step.run_id)
  end
end
for _, step in ipairs(args[1]) do
  local id = step.run_id
  if not loaded[id] and not held[id] then
    held[id] = read('run:' .. id, HELD)
    held[id].id = id
  end
end

local answers = {}
for index, step in ipairs(args[1]) do
  local run = loaded[step.run_id] or held[step.run_id]
  run = run.state and run or nil
  local changes = run and MOVES[step.kind](run, step)
  local answer = 'refused'
  if changes == 'repeated' then
    answer = 'repeated'
  elseif changes then
    answer = 'accepted'
    change(run, changes)
    if step.event then
      tell(unpack(step.event, 1, 5))
    end
    if FINISHED[run.state] then
      promote(run.schedule_id)
    end
  end
  local token = answer == 'accepted' and (step.kind == 'guard' or step.kind == 'renew') and run.token or '0'
  answers[index] = {answer, run and run.state or '', token, run and run.cancel_requested or ''}
end
return cmsgpack.pack({answers, finish()})
