-- Settles: the ends of attempts, each under its fence and with its follow-ups.
--
-- A settle comes as {seq, claim_no, owner, id, state, attempt, failures, crashes, ended_at, values, kept,
-- follow, join, after}: `values` the names and values to be written, `kept` the attempt to be told apart
-- from its row because another one follows it ("": none). A plain success comes shorter: see `finish`.

local function holds(r, s)
  return r.state == 'running' and r.claim_no == s[2] and r.owner == s[3] and r.id == s[4]
end

-- Whether this very settle was written before: its answer was lost, and it came again.
local function is_repeated(r, s)
  if r.id ~= s[4] or r.claim_no ~= s[2] or r.state == 'running' then
    return false
  end
  return FINAL[r.state] or (r.attempt == s[6] and (r.failures or '0') == s[7] and (r.crashes or '0') == s[8])
end

local function keep_attempt(r, s)
  local key = P .. 'att:' .. r.seq
  call('HSET', key, s[6], s[11])
  if r.host then
    call('HSET', key, 'host ' .. s[6], r.host)
  end
  call('ZADD', P .. 'retried', 'GT', s[9], r.seq)
end

local RETOLD = { 'outcome', 'started_at', 'exit_code', 'signal', 'pid', 'output', 'error' }

-- A call that came back before it had begun was no attempt: the row tells of the one before again.
local function tell_earlier(seq, number)
  local key, row_key = P .. 'att:' .. seq, P .. 'run:' .. seq
  local text = call('HGET', key, number)
  if not text then
    return
  end
  local attempt = cjson.decode(text)
  attempt.host = call('HGET', key, 'host ' .. number) or nil
  for _, name in ipairs({ 'host', unpack(RETOLD) }) do
    if attempt[name] then
      call('HSET', row_key, name, attempt[name])
    else
      call('HDEL', row_key, name)
    end
  end
end

-- What the settle writes, given that a client may have wanted the run's end (jobrunner.storage.fences).
local function with_cancel(r, s, new)
  if not r.cancel then
    return false
  elseif s[5] == 'cancelled' and new.reason == 'cancelled' then
    new.reason = r.cancel
    return false
  elseif FINAL[s[5]] then
    return false
  end
  new.state, new.reason, new.finished_at, new.join = 'cancelled', r.cancel, s[9], nil
  return true
end

local function write_settle(r, s)
  local new = s[10]
  local cancelled = with_cancel(r, s, new)
  new.owner, new.started_at, new.pid = false, new.started_at or false, new.pid or false
  if s[11] ~= '' and not cancelled then
    keep_attempt(r, s)
  end
  if s[13] ~= '' and not cancelled then
    new.join, new.after = s[13], s[14]
  end
  change(r, new)
  if not new.outcome then
    tell_earlier(r.seq, s[6])
  end
  if not cancelled then
    add_all(s[12])
    if r.state == 'waiting' then
      untie(r)
      tie(r)
    end
  end
end

local function settle(s)
  write_gathered()
  local r = row(s[1])
  if not r then
    return false
  elseif not holds(r, s) then
    return is_repeated(r, s)
  end
  write_settle(r, s)
  return true
end

-- The hot path: a success that nothing follows, as {seq, claim_no, owner, id, ended_at, result or false, other
-- names and values to be written}.
local function write_success(s)
  local key = P .. 'run:' .. s[1]
  if s[6] then
    call('HSET', key, 'state', 'succeeded', 'finished_at', s[5], 'result', s[6], unpack(s[7]))
  else
    call('HSET', key, 'state', 'succeeded', 'finished_at', s[5], unpack(s[7]))
  end
end

local function finish(s)
  local r = whole_row(s[1])
  if not r then
    return false
  elseif not holds(r, s) then
    return r.id == s[4] and r.claim_no == s[2] and FINAL[r.state] or false
  end
  gather()
  leave(r)
  write_success(s)
  if r.lock or r.locks then
    call('HDEL', P .. 'run:' .. r.seq, 'lock', 'locks')
  end
  r.state, r.finished_at, r.result = 'succeeded', s[5], s[6]
  arrive(r)
  return true
end

local PLAIN = string.rep('([^\n]*)\n', 7)

-- The settles, with those that lie beside the request, as lines, where the request says 0.
local function with_plain_ones(settles, owner)
  local place = 0
  for seq, claim_no, id, ended_at, started_at, pid, result in string.gmatch(ARGV[3], PLAIN) do
    repeat
      place = place + 1
    until settles[place] == 0
    local rest = { 'started_at', started_at, 'pid', pid }
    settles[place] = { seq, claim_no, owner, id, ended_at, result ~= '' and result, rest }
  end
  return settles
end

-- The settles of this owner that ask for no look at a row: plain successes of runs that are bound to nothing.
local function held_ones(settles, owner)
  local places, seqs, found = {}, {}, {}
  for i, s in ipairs(settles) do
    if #s == 7 and s[3] == owner then
      places[#places + 1], seqs[#seqs + 1] = i, s[1]
    end
  end
  if #seqs == 0 or call('EXISTS', P .. 'wanted:' .. owner) == 1 then
    return found
  end
  for start = 1, #seqs, 1000 do
    local fences = call('HMGET', P .. 'held:' .. owner, unpack(seqs, start, math.min(start + 999, #seqs)))
    for i, fence in ipairs(fences) do
      found[places[start + i - 1]] = fence
    end
  end
  return found
end

-- The same as `finish`, by what is noted of a run that is held; its places are written with those of others.
local function finish_held(s, fence, batch)
  local first = s[2] .. '\n' .. s[4] .. '\n'
  if string.find(fence, first, 1, true) ~= 1 then
    return false
  end
  local seq, task, ended_at = s[1], string.sub(fence, #first + 1), s[5]
  write_success(s)
  local padded, done, results = pad(seq), batch.done, batch.results
  local of_task = batch.by_task[task] or { seqs = {}, scored = {}, done = {}, size = 0 }
  local size = of_task.size + 1
  batch.by_task[task], of_task.size, of_task.seqs[size] = of_task, size, seq
  of_task.scored[2 * size - 1], of_task.scored[2 * size] = seq, seq
  of_task.done[2 * size - 1], of_task.done[2 * size] = ended_at, padded
  done[#done + 1], done[#done + 2] = ended_at, padded
  if s[6] then
    results[#results + 1], results[#results + 2] = ended_at, padded
  end
  batch.seqs[#batch.seqs + 1] = seq
  finals[#finals + 1] = s[4]
  ends[s[4]] = 'succeeded'
  return true
end

local function write_held(batch, owner)
  for task, found in pairs(batch.by_task) do
    write_list('ZREM', 'task:' .. task .. ':running', found.seqs)
    write_list('ZADD', 'task:' .. task .. ':succeeded', found.scored)
    write_list('ZADD', 'done:' .. task, found.done)
  end
  write_list('HDEL', 'held:' .. owner, batch.seqs)
  write_list('ZADD', 'done', batch.done)
  write_list('ZADD', 'results', batch.results)
  dirty = true
end

-- `owner`: who asks, where that is known.
local function settle_all(settles, owner)
  local refused, held, done = {}, owner and held_ones(settles, owner) or {}, {}
  local batch = { by_task = {}, seqs = {}, done = {}, results = {} }
  for i, s in ipairs(settles) do
    if held[i] and not done[s[1]] and finish_held(s, held[i], batch) then
      done[s[1]] = true
    elseif not (#s == 7 and finish or settle)(s) then
      refused[#refused + 1] = i
    end
  end
  write_gathered()
  if #batch.seqs > 0 then
    write_held(batch, owner)
  end
  return refused
end

-- Each as {seq, claim_no, owner, started_at, pid or ""}.
local function mark_started(marks)
  for _, m in ipairs(marks) do
    local key = P .. 'run:' .. m[1]
    local found = call('HMGET', key, 'state', 'claim_no', 'owner')
    if found[1] == 'running' and found[2] == m[2] and found[3] == m[3] then
      dirty = true
      call('HSET', key, 'started_at', m[4])
      if m[5] == '' then
        call('HDEL', key, 'pid')
      else
        call('HSET', key, 'pid', m[5])
      end
    end
  end
end

function operations.settle()
  allow_growth()
  local refused = settle_all(request.settled)
  ripple()
  rings = true
  return refused
end

function operations.cancel()
  allow_growth()
  local answers = {}
  for i, id in ipairs(request.ids) do
    answers[i] = cancel(id, request.reason) and 1 or 0
  end
  ripple()
  rings = true
  return answers
end
