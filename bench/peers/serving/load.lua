-- wrk -s load.lua URL -- BODIES PATH: posts lines of the file BODIES in random order, and prints what came of it as JSON
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  math.randomseed(1)
  sent, requests = 0, {}
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", args[2], {["Content-Type"] = "application/json"}, body)
  end
end

function request()
  sent = sent + 1
  return requests[math.random(#requests)]
end

function done(summary, latency)
  local sent = 0
  for _, thread in ipairs(threads) do
    sent = sent + thread:get("sent")
  end
  local errors = summary.errors
  io.write(string.format(
    '{"answered": %d, "sent": %d, "seconds": %.6f, "p50": %.4f, "p99": %.4f, "worst": %.4f, "failed": %d}\n',
    summary.requests, sent, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
