-- How a run moves: one transition on one run. The same closed set as store/moves.py, clause by clause; the
-- suite's table holds both to it. A move returns what it changes, 'repeated', or nothing: refused.

local function holds(run, token)
  return run.state == 'running' and run.token == token
end

local function too_late(run)
  return run.deadline_at ~= nil and tonumber(run.deadline_at) < clock
end

local function passed(at)
  return at ~= nil and tonumber(at) <= clock
end

local function attempt_of(run, more)
  return whole(tonumber(run.attempt or '0') + more)
end

local function leased(run, holder, till, token)
  return {
    state = 'running', reason = false, attempt = attempt_of(run, 1), token = token, holder = holder,
    lease_until = till, resend_at = false, claimed_at = now, started_at = false, outcome = false,
    error = false, progress_done = false, progress_total = false,
  }
end

local function marked(resend_at)
  return {state = 'sent', resend_at = resend_at or false}
end

-- When a run that a claim sends is ready again: copies come the rarer, the longer it waits.
local function resent(run, till, till_max)
  local again = math.max(2 * clock - tonumber(run.ready_at), tonumber(till))
  return whole(math.min(again, tonumber(till_max)))
end

local function next_token()
  local last = counters.last_token or tonumber(call('HGET', META, 'last_token') or '0')
  counters.last_token = math.max(last + 1, clock)
  return whole(counters.last_token)
end

local function can_be(verdict)
  return verdict.at ~= nil or FINISHED[verdict.state]
end

local function judged(run, verdict, outcome)
  local changes
  if verdict.state then
    if outcome == 'lost' and run.cancel_requested then
      changes = ended('cancelled', 'cancelled; its holder was lost')
    else
      changes = ended(verdict.state, verdict.reason)
    end
  elseif run.cancel_requested then
    changes = ended('cancelled', 'cancelled before it was tried again')
  else
    changes = {
      state = 'ready', reason = verdict.reason or false, ready_at = verdict.at, holder = false,
      lease_until = false,
    }
  end
  changes.outcome = outcome
  return changes
end

-- Whether a move would let a ready run out while its group has another one out.
local LETS_OUT = {guard = true, sent = true}
local function barred(run, step)
  if LETS_OUT[step.kind] and run.state == 'ready' then
    local group = group_of(run.queue)
    return group and has_one_out(group)
  end
end

local MOVES = {}

function MOVES.start(run, step)
  if holds(run, step.token) then
    return run.started_at and 'repeated' or {started_at = now, deadline_at = false}
  end
end

function MOVES.renew(run, step)
  return holds(run, step.token) and {lease_until = step.till}
end

function MOVES.finish(run, step)
  if not holds(run, step.token) then
    return run.token == step.token and run.outcome == step.outcome and 'repeated'
  end
  if can_be(step.verdict) then
    local changes = judged(run, step.verdict, step.outcome)
    changes.result, changes.error = step.result or false, step.error or false
    return changes
  end
end

function MOVES.release(run, step)
  if not holds(run, step.token) or run.started_at then
    return
  end
  if run.cancel_requested then
    return ended('cancelled', 'cancelled before it started')
  end
  return {
    state = 'ready', attempt = attempt_of(run, -1), holder = false, lease_until = false, claimed_at = false,
  }
end

function MOVES.lost(run, step)
  return holds(run, step.token) and passed(run.lease_until) and (step.started or not run.started_at)
    and can_be(step.verdict) and judged(run, step.verdict, 'lost')
end

function MOVES.sent(run, step)
  return run.state == 'ready' and step.attempt == attempt_of(run, 1)
    and marked(step.resend_at)
end

function MOVES.resend(run)
  return run.state == 'sent' and passed(run.resend_at) and {state = 'ready', resend_at = false}
end

function MOVES.guard(run, step)
  local open_to = (run.state == 'ready' or run.state == 'sent') and not too_late(run)
  if open_to and step.attempt == attempt_of(run, 1) then
    local changes = leased(run, step.holder, step.till, next_token())
    if step.starts then
      changes.started_at, changes.deadline_at = now, false
    end
    return changes
  end
end

function MOVES.hand_over(run, step)
  if (run.state == 'ready' or run.state == 'sent') and step.attempt == attempt_of(run, 1) then
    local changes = ended('handed_over')
    changes.attempt = step.attempt
    return changes
  end
end

function MOVES.cancel(run)
  if run.state == 'cancelled' or (run.state == 'running' and run.cancel_requested) then
    return 'repeated'
  end
  return not FINISHED[run.state] and cancelled(run, 'cancelled on request')
end

function MOVES.park(run, step)
  if run.state == 'parked' then
    return 'repeated'
  end
  return run.state == 'ready' and {state = 'parked', reason = step.reason}
end

function MOVES.unpark(run)
  if run.state == 'ready' then
    return 'repeated'
  end
  return run.state == 'parked' and {state = 'ready', reason = false}
end

function MOVES.expire(run)
  return (run.state == 'waiting' or run.state == 'ready') and too_late(run)
    and ended('expired', 'not started in time')
end
