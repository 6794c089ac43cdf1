-- One call: its operation, and the word to those who wait for it.

local answer = operations[ARGV[1]]()
if dirty then
  call('INCR', P .. 'writes')
end
if next(ends) then
  for _, channel in ipairs(call('PUBSUB', 'CHANNELS', P .. 'end:*')) do -- mostly there is none
    local state = ends[string.sub(channel, #P + 5)]
    if state then
      call('PUBLISH', channel, state)
    end
  end
end
if rings then
  call('PUBLISH', P .. 'wake', ARGV[1])
end
return { dirty and 1 or 0, answer }
