-- A thousand users on one path, in turn; the requests are built once, so that wrk stays cheap.
-- At the end one line of JSON for run.py: wrk's own summary is meant for people.
local users, next_user, requests = 1000, 0, {}

function init(arguments)
  for number = 1, users do
    -- The second argument, if any, is the ticket of somebody who waits.
    requests[number] =
      wrk.format("GET", arguments[1], { ["X-User"] = "user-" .. number, ["X-Tidegate-Ticket"] = arguments[2] })
  end
end

function request()
  next_user = next_user % users + 1
  return requests[next_user]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nresult {"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "not_2xx": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
