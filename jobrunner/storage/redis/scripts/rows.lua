-- Runs: a hash each, and the places where a run is found by its state.
--
--   run:SEQ            the row                     id           id -> SEQ
--   ids, sdi           id:SEQ, and reversed: runs by the beginning and by the end of their ids
--   runs               SEQ of all                  created      SEQ by created_at
--   state:S            SEQ in state S              task:T:S     SEQ of task T in state S
--   lane:L             rank, due, SEQ: queued      lanes        the lanes in which runs wait
--   queued             SEQ by due_at               due          SEQ by due_at: scheduled, retrying
--   expiry             SEQ by expires_at           own:O        SEQ that run under owner O
--   lock:N             SEQ that hold lock N        unique       key -> SEQ of its holder
--   done, done:T       SEQ by finished_at          ended:S      the same of the succeeded, the failed
--   pipe:ID            SEQ of the steps            ticking:T    SEQ: scheduled with a tick of its own
--   roots:T            SEQ: unfinished pipelines   next:ID      SEQ that wait for the run ID
--   open:SEQ           ids that SEQ waits for      att:SEQ      earlier attempts
--   results            SEQ by finished_at          retried      SEQ by the end of the last earlier attempt
--   wanted:O           SEQ that O is to cancel     tasks        names of tasks that ever had a run

local PLACED = {
  'id', 'task', 'state', 'lane', 'rank', 'due_at', 'expires_at', 'claim_no', 'owner', 'lock', 'locks',
  'unique', 'pipeline', 'join', 'step', 'created_at', 'finished_at', 'cancel', 'after', 'attempt', 'failures',
  'crashes', 'host', 'tick', 'pipeline_name',
}

local function row(seq)
  local values = call('HMGET', P .. 'run:' .. seq, unpack(PLACED))
  if not values[1] then
    return nil
  end
  local found = { seq = seq }
  for i, name in ipairs(PLACED) do
    found[name] = values[i]
  end
  return found
end

local function seq_of(id)
  return call('HGET', P .. 'id', id) or nil
end

local function place_in_lane(r)
  return r.rank .. string.rep('0', 20 - #r.due_at) .. r.due_at .. pad(r.seq)
end

local function expires_in(r)
  if not r.expires_at then
    return false
  end
  return (r.state == 'queued' and r.claim_no == '0') or (r.state == 'waiting' and r.join and not r.cancel)
end

local function release_locks(r)
  if r.lock then
    call('SREM', P .. 'lock:' .. r.lock, r.seq)
    frees = true
  end
  for _, name in ipairs(r.locks and cjson.decode(r.locks) or {}) do
    call('SREM', P .. 'lock:' .. name, r.seq)
    frees = true
  end
end

local leaving = {
  queued = function(r)
    call('ZREM', P .. 'lane:' .. r.lane, place_in_lane(r))
    call('ZREM', P .. 'queued', r.seq)
  end,
  scheduled = function(r)
    call('ZREM', P .. 'due', pad(r.seq))
    if r.tick then
      call('ZREM', P .. 'ticking:' .. r.task, r.seq)
    end
  end,
  retrying = function(r)
    call('ZREM', P .. 'due', pad(r.seq))
  end,
  running = function(r)
    call('ZREM', P .. 'own:' .. r.owner, r.seq)
    if r.cancel then
      call('SREM', P .. 'wanted:' .. r.owner, r.seq)
    end
    release_locks(r)
  end,
  waiting = function(r)
    if r.join and not r.pipeline then
      call('ZREM', P .. 'roots:' .. r.task, r.seq)
    end
  end,
}

local function leave(r)
  call('ZREM', P .. 'state:' .. r.state, r.seq)
  call('ZREM', P .. 'task:' .. r.task .. ':' .. r.state, r.seq)
  if expires_in(r) then
    call('ZREM', P .. 'expiry', pad(r.seq))
  end
  if leaving[r.state] then
    leaving[r.state](r)
  end
end

local function end_of(r)
  call('ZADD', P .. 'done', r.finished_at, pad(r.seq))
  if r.state ~= 'skipped' then
    call('ZADD', P .. 'done:' .. r.task, r.finished_at, pad(r.seq))
  end
  if r.state == 'succeeded' or r.state == 'failed' then
    call('ZADD', P .. 'ended:' .. r.state, r.finished_at, r.seq)
  end
  if r.result then
    call('ZADD', P .. 'results', r.finished_at, pad(r.seq))
  end
  if r.unique and call('HGET', P .. 'unique', r.unique) == r.seq then
    call('HDEL', P .. 'unique', r.unique)
  end
  finals[#finals + 1] = r.id
  call('PUBLISH', P .. 'end:' .. r.id, r.state)
end

local arriving = {
  queued = function(r)
    call('ZADD', P .. 'lane:' .. r.lane, 0, place_in_lane(r))
    call('SADD', P .. 'lanes', r.lane)
    call('ZADD', P .. 'queued', r.due_at, r.seq)
    frees = true
  end,
  scheduled = function(r)
    call('ZADD', P .. 'due', r.due_at, pad(r.seq))
    if r.tick then
      call('ZADD', P .. 'ticking:' .. r.task, r.seq, r.seq)
    end
  end,
  retrying = function(r)
    call('ZADD', P .. 'due', r.due_at, pad(r.seq))
  end,
  running = function(r)
    call('ZADD', P .. 'own:' .. r.owner, r.seq, r.seq)
    if r.lock then
      call('SADD', P .. 'lock:' .. r.lock, r.seq)
    end
  end,
  waiting = function(r)
    if r.join and not r.pipeline then
      call('ZADD', P .. 'roots:' .. r.task, r.seq, r.seq)
    end
  end,
}

local function arrive(r)
  dirty = true
  call('ZADD', P .. 'state:' .. r.state, r.seq, r.seq)
  call('ZADD', P .. 'task:' .. r.task .. ':' .. r.state, r.seq, r.seq)
  if expires_in(r) then
    call('ZADD', P .. 'expiry', r.expires_at, pad(r.seq))
  end
  if FINAL[r.state] then
    end_of(r)
  else
    arriving[r.state](r)
  end
end

-- Tie a waiting row to what it waits for; `ripple` looks at once which of it is over.
local function tie(r)
  for _, edge in ipairs(cjson.decode(r.after or '[]')) do
    call('SADD', P .. 'open:' .. r.seq, edge[1])
    call('SADD', P .. 'next:' .. edge[1], r.seq)
  end
  fresh[#fresh + 1] = r.seq
end

local function untie(r)
  for _, id in ipairs(call('SMEMBERS', P .. 'open:' .. r.seq)) do
    call('SREM', P .. 'next:' .. id, r.seq)
  end
  call('DEL', P .. 'open:' .. r.seq)
end

-- Change a row (false: without a value), and where it is found.
local function change(r, new)
  local set, gone = {}, {}
  if r.state == 'running' then
    for _, name in ipairs({ 'lock', 'locks' }) do
      if r[name] then
        new[name] = false
      end
    end
  end
  leave(r)
  for name, value in pairs(new) do
    r[name] = value
    if value == false then
      gone[#gone + 1] = name
    else
      set[#set + 1] = name
      set[#set + 1] = value
    end
  end
  call('HSET', P .. 'run:' .. r.seq, unpack(set))
  if #gone > 0 then
    call('HDEL', P .. 'run:' .. r.seq, unpack(gone))
  end
  arrive(r)
end

-- Add a row as it was given: names and values.
local function insert(r)
  r.replaces = nil
  local flat = {}
  for name, value in pairs(r) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  r.seq = int(call('INCR', P .. 'seq'))
  if FINAL[r.state] then
    r.finished_at = r.created_at
    call('HSET', P .. 'run:' .. r.seq, 'finished_at', r.finished_at)
  end
  call('HSET', P .. 'run:' .. r.seq, unpack(flat))
  call('HSET', P .. 'id', r.id, r.seq)
  call('ZADD', P .. 'ids', 0, r.id .. ':' .. r.seq)
  call('ZADD', P .. 'sdi', 0, string.reverse(r.id) .. ':' .. r.seq)
  call('ZADD', P .. 'runs', r.seq, r.seq)
  call('ZADD', P .. 'created', r.created_at, r.seq)
  if r.pipeline then
    call('ZADD', P .. 'pipe:' .. r.pipeline, r.seq, r.seq)
  end
  if r.unique and not FINAL[r.state] then
    call('HSET', P .. 'unique', r.unique, r.seq)
  end
  call('SADD', P .. 'tasks', r.task)
  arrive(r)
  if r.state == 'waiting' then
    tie(r)
  end
end

-- Forget a row.
local function remove(r)
  local padded = pad(r.seq)
  leave(r)
  call('ZREM', P .. 'done', padded)
  call('ZREM', P .. 'done:' .. r.task, padded)
  call('ZREM', P .. 'ended:succeeded', r.seq)
  call('ZREM', P .. 'ended:failed', r.seq)
  call('ZREM', P .. 'retried', r.seq)
  call('ZREM', P .. 'results', padded)
  if r.unique and call('HGET', P .. 'unique', r.unique) == r.seq then
    call('HDEL', P .. 'unique', r.unique)
  end
  if r.pipeline then
    call('ZREM', P .. 'pipe:' .. r.pipeline, r.seq)
  end
  call('ZREM', P .. 'created', r.seq)
  call('ZREM', P .. 'runs', r.seq)
  call('ZREM', P .. 'sdi', string.reverse(r.id) .. ':' .. r.seq)
  call('HDEL', P .. 'id', r.id)
  call('ZREM', P .. 'ids', r.id .. ':' .. r.seq)
  untie(r)
  call('DEL', P .. 'att:' .. r.seq, P .. 'run:' .. r.seq)
  finals[#finals + 1] = r.id
  dirty = true
end
