-- One call: its operation, and the word to those who wait for it.

local answer = operations[ARGV[1]]()
if dirty then
  call('INCR', P .. 'writes')
end
if next(ends) then
  local channels = {}
  for id in pairs(ends) do
    channels[#channels + 1] = P .. 'end:' .. id
  end
  for i = 1, #channels, 1000 do -- asked for by name: a server may have any number of channels of others
    local heard = call('PUBSUB', 'NUMSUB', unpack(channels, i, math.min(i + 999, #channels)))
    for j = 1, #heard, 2 do -- mostly nobody listens
      if heard[j + 1] > 0 then
        call('PUBLISH', heard[j], ends[string.sub(heard[j], #P + 5)])
      end
    end
  end
end
if rings then
  call('PUBLISH', P .. 'wake', ARGV[1])
end
return { dirty and 1 or 0, answer }
