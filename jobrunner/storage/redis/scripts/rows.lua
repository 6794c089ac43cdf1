-- Runs: a hash each, and the places where a run is found by its state.
--
-- In a row stands what is not 0: priority (and its rank), missed, failures, crashes; that a success has the
-- outcome `ok` goes without saying, and an owner counts of a running row.
--
--   run:SEQ            the row                     id           id -> SEQ
--   ids, sdi           id:SEQ, and reversed: runs by the beginning and by the end of their ids
--   runs               SEQ of all                  created      SEQ by created_at
--   task:T:S           SEQ of task T in state S
--   lane:L             rank, due, SEQ: queued      lanes        the lanes in which runs wait
--   due                SEQ by due_at: scheduled, retrying
--   ready              SEQ -> what its claim says: queued, never claimed, and bound to nothing else
--   held:O             SEQ -> claim, id and task: runs under owner O, and has no lock, no unique key
--   own:O              SEQ: the others that run under owner O
--   expiry             SEQ by expires_at
--   lock:N             SEQ that hold lock N        unique       key -> SEQ of its holder
--   done, done:T       SEQ by finished_at          ended:S      the same of those that did not succeed
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

-- The row, or of it what `names` say; nil: there is none.
local function row(seq, names)
  names = names or PLACED
  local values = call('HMGET', P .. 'run:' .. seq, unpack(names))
  if not values[1] then
    return nil
  end
  local found = { seq = seq }
  for i, name in ipairs(names) do
    found[name] = values[i]
  end
  return found
end

-- All of a row, for the hot path: one pass over a small hash, where each name that is asked for takes one.
-- The table has room from the start for the names of most rows, and for those of a success.
local function whole_row(seq)
  local flat = call('HGETALL', P .. 'run:' .. seq)
  local found = {
    seq = seq, id = false, task = false, state = false, lane = false, rank = false, due_at = false,
    claim_no = false, owner = false, host = false, attempt = false, failures = false, crashes = false,
    payload = false, priority = false, created_at = false, trigger = false, pool = false, missed = false,
  }
  for i = 1, #flat, 2 do
    found[flat[i]] = flat[i + 1]
  end
  return found.id and found or nil
end

-- SEQ of what runs under this owner, the first enqueued first.
local function running_under(owner)
  local found = call('ZRANGE', P .. 'own:' .. owner, 0, -1)
  for _, seq in ipairs(call('HKEYS', P .. 'held:' .. owner)) do
    local r = row(seq, { 'id', 'state', 'owner' })
    if r and r.state == 'running' and r.owner == owner then -- an older jobrunner may have ended it
      found[#found + 1] = seq
    end
  end
  table.sort(found, by_number)
  return found
end

local function seq_of(id)
  return call('HGET', P .. 'id', id) or nil
end

local PLAIN_RANK = '09223372036854775808' -- of priority 0

local function place_in_lane(r)
  return (r.rank or PLAIN_RANK) .. string.rep('0', 20 - #r.due_at) .. r.due_at .. pad(r.seq)
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
    leave_place('lane:' .. r.lane, place_in_lane(r))
    drop_note('ready', r.seq)
  end,
  scheduled = function(r)
    leave_place('due', pad(r.seq))
    if r.tick then
      leave_place('ticking:' .. r.task, r.seq)
    end
  end,
  retrying = function(r)
    leave_place('due', pad(r.seq))
  end,
  running = function(r)
    leave_place('own:' .. r.owner, r.seq)
    drop_note('held:' .. r.owner, r.seq)
    if r.cancel then
      call('SREM', P .. 'wanted:' .. r.owner, r.seq)
    end
    release_locks(r)
  end,
  waiting = function(r)
    if r.join and not r.pipeline then
      leave_place('roots:' .. r.task, r.seq)
    end
  end,
}

local function leave(r)
  leave_place('task:' .. r.task .. ':' .. r.state, r.seq)
  if expires_in(r) then
    leave_place('expiry', pad(r.seq))
  end
  if leaving[r.state] then
    leaving[r.state](r)
  end
end

local function end_of(r)
  take_place('done', r.finished_at, pad(r.seq))
  if r.state ~= 'skipped' then
    take_place('done:' .. r.task, r.finished_at, pad(r.seq))
  end
  if r.state ~= 'succeeded' then
    take_place('ended:' .. r.state, r.finished_at, r.seq)
  end
  if r.result then
    take_place('results', r.finished_at, pad(r.seq))
  end
  if r.unique and call('HGET', P .. 'unique', r.unique) == r.seq then
    call('HDEL', P .. 'unique', r.unique)
  end
  finals[#finals + 1] = r.id
  ends[r.id] = r.state
end

-- Whether the end of a running row concerns nothing but itself.
local function is_unbound(r)
  return not (r.lock or r.locks or r.unique or string.find(r.id, '\n', 1, true))
end

-- What a settle must know to be taken; the task stands behind it.
local function fence_of(r)
  return r.claim_no .. '\n' .. r.id .. '\n' .. r.task
end

local function enter_lane(r)
  take_place('lane:' .. r.lane, 0, place_in_lane(r))
  join_set('lanes', r.lane)
  frees = true
end

local arriving = {
  queued = enter_lane,
  scheduled = function(r)
    take_place('due', r.due_at, pad(r.seq))
    if r.tick then
      take_place('ticking:' .. r.task, r.seq, r.seq)
    end
  end,
  retrying = function(r)
    take_place('due', r.due_at, pad(r.seq))
  end,
  running = function(r)
    if is_unbound(r) then
      note('held:' .. r.owner, r.seq, fence_of(r))
      return
    end
    take_place('own:' .. r.owner, r.seq, r.seq)
    if r.lock then
      call('SADD', P .. 'lock:' .. r.lock, r.seq)
    end
  end,
  waiting = function(r)
    if r.join and not r.pipeline then
      take_place('roots:' .. r.task, r.seq, r.seq)
    end
  end,
}

local function arrive(r)
  dirty = true
  take_place('task:' .. r.task .. ':' .. r.state, r.seq, r.seq)
  if expires_in(r) then
    take_place('expiry', r.expires_at, pad(r.seq))
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
    if value == false then
      gone[#gone + 1] = name
    elseif value ~= r[name] then
      set[#set + 1] = name
      set[#set + 1] = value
    end
    r[name] = value
  end
  if #set > 0 then
    call('HSET', P .. 'run:' .. r.seq, unpack(set))
  end
  if #gone > 0 then
    call('HDEL', P .. 'run:' .. r.seq, unpack(gone))
  end
  arrive(r)
end

local MOST_READY = 2048 -- bytes of a payload that lies in `ready` too

local function is_ready(r)
  return r.state == 'queued' and not (r.expires_at or r.unique or r.pipeline or r.after or r.join or r.compose)
    and #r.payload <= MOST_READY and not string.find(r.id .. r.task, '[%c"\\]')
end

local function json_of(text)
  return text and cjson.encode(text) or 'null'
end

-- The claim of a run that has just been added, as JSON, in the order of its fields: its id and its task are the
-- first texts in it, and need no escapes.
local function first_claim_of(r)
  return '[' .. r.seq .. ',"' .. r.id .. '","' .. r.task .. '",1,1,0,0,' .. json_of(r.payload) .. ','
    .. (r.priority or '0') .. ',' .. r.due_at .. ',' .. r.created_at .. ',' .. json_of(r.trigger) .. ','
    .. json_of(r.pool) .. ',' .. (r.tick or 'null') .. ',' .. (r.missed or '0') .. ',' .. json_of(r.policy) .. ','
    .. json_of(r.options) .. ',' .. json_of(r.cause) .. ']'
end

-- Write a row as it was given, names and values, and where it is found whatever becomes of it.
local function register(r)
  local flat = {}
  for name, value in pairs(r) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  r.seq = int(call('INCR', P .. 'seq'))
  call('HSET', P .. 'run:' .. r.seq, unpack(flat))
  call('HSET', P .. 'id', r.id, r.seq)
  take_place('ids', 0, r.id .. ':' .. r.seq)
  take_place('sdi', 0, string.reverse(r.id) .. ':' .. r.seq)
  take_place('runs', r.seq, r.seq)
  take_place('created', r.created_at, r.seq)
  join_set('tasks', r.task)
end

-- Add a row.
local function insert(r)
  r.replaces = nil
  register(r)
  if r.pipeline then
    take_place('pipe:' .. r.pipeline, r.seq, r.seq)
  end
  if r.unique and not FINAL[r.state] then
    call('HSET', P .. 'unique', r.unique, r.seq)
  end
  arrive(r)
  if is_ready(r) then
    note('ready', r.seq, first_claim_of(r))
  elseif r.state == 'waiting' then
    tie(r)
  end
end

-- Forget a row.
local function remove(r)
  local padded = pad(r.seq)
  leave(r)
  call('ZREM', P .. 'done', padded)
  call('ZREM', P .. 'done:' .. r.task, padded)
  call('ZREM', P .. 'ended:' .. r.state, r.seq)
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
  call('HDEL', P .. 'ready', r.seq) -- of a run that an older jobrunner has claimed
  call('DEL', P .. 'att:' .. r.seq, P .. 'run:' .. r.seq)
  finals[#finals + 1] = r.id
  dirty = true
end
