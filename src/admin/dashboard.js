"use strict";
// Figures are differences between two readings of /metrics; everything else is shown as the admin side tells it.
const byId = (id) => document.getElementById(id);
const headers = () => {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
};
let before = null;

async function fetchOk(path) {
  const answer = await fetch(path, { headers: headers(), cache: "no-store" });
  if (answer.status === 401) {
    byId("sign-in").hidden = false;
    throw new Error("the admin token is required");
  }
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  byId("sign-in").hidden = true;
  return answer;
}

function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] || "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value;
    samples.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return samples;
}

function sum(samples, name, filter = () => true) {
  return samples.filter((s) => s.name === name && filter(s.labels)).reduce((all, s) => all + s.value, 0);
}

function rate(now, name, filter) {
  if (!before) return null;
  const seconds = (now.at - before.at) / 1000;
  return Math.max(0, (sum(now.samples, name, filter) - sum(before.samples, name, filter)) / seconds);
}

function short(value) {
  if (value === null) return "–";
  return value >= 100 ? Math.round(value).toLocaleString() : value.toFixed(1);
}

function row(cells) {
  const tr = document.createElement("tr");
  for (const [text, number] of cells) {
    const td = document.createElement("td");
    td.textContent = text;
    if (number) td.className = "n";
    tr.append(td);
  }
  return tr;
}

function show(now, routes, channels, limits, status) {
  byId("rate").textContent = short(rate(now, "tidegate_requests_total"));
  byId("refused").textContent = short(rate(now, "tidegate_requests_total", (l) => l.code === "429" || l.code === "503"));
  byId("errors").textContent = short(rate(now, "tidegate_requests_total", (l) => (l.code || "").startsWith("5")));
  byId("flight").textContent = sum(now.samples, "tidegate_requests_in_flight").toLocaleString();
  byId("connections").textContent = sum(now.samples, "tidegate_connections").toLocaleString();
  const memory = sum(now.samples, "tidegate_process_resident_memory_bytes") / 1048576;
  byId("memory").textContent = `${memory.toFixed(0)} MiB`;
  byId("routes").replaceChildren(...routes.routes.map((r) => row([
    [r.route], [`${r.methods.join(" ")} ${r.host || ""}${r.path}`], [r.filters.map((f) => f.filter).join(", ")], [r.upstream],
    [short(rate(now, "tidegate_requests_total", (l) => l.route === r.route)), true],
  ])));
  byId("limits").replaceChildren(...limits.map((p) => row([
    [p.filter], [p.policy], [p.burst.toLocaleString(), true], [p.keys.toLocaleString(), true],
    [short(rate(now, "tidegate_filter_decisions_total", (l) => l.filter === p.filter && l.policy === p.policy && l.outcome === "reject")), true],
  ])));
  byId("channels").replaceChildren(...channels.map((c) => row([
    [c.upstream], [c.channel], [c.why_not || (c.backup ? "backup" : "ready")], [c.breakers.map((b) => b.state).join(", ") || "–"],
    [c.weight, true], [c.success_rate === null ? "–" : `${(c.success_rate * 100).toFixed(1)} %`, true],
    [c.latency_ms === null ? "–" : c.latency_ms.toFixed(1), true], [c.in_flight, true],
    [short(rate(now, "tidegate_channel_requests_total", (l) => l.upstream === c.upstream && l.channel === c.channel)), true],
  ])));
  configuration(status);
}

function configuration(status) {
  const last = status.last_reload;
  const facts = [
    ["file", status.file],
    ["generation", `${status.generation}, since ${new Date(status.since_unix * 1000).toLocaleTimeString()}`],
    ["hash", status.hash.slice(0, 16)],
    ["last reload", last ? `${last.result} (${last.source}) at ${new Date(last.at_unix * 1000).toLocaleTimeString()}` : "none"],
  ];
  byId("config").replaceChildren(...facts.flatMap(([name, value]) => {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    [dt.textContent, dd.textContent] = [name, value];
    return [dt, dd];
  }));
  const bad = Boolean(last && last.error);
  byId("problems").hidden = !bad;
  byId("problems").textContent = bad ? last.error : "";
  byId("state").className = bad ? "bad" : "";
  byId("state").textContent = bad ? "the file on disk is refused; the one before it serves" : "serving";
}

async function look() {
  try {
    const [metrics, routes, channels, limits, status] = await Promise.all([
      fetchOk("/metrics").then((a) => a.text()),
      fetchOk("/-/routes").then((a) => a.json()),
      fetchOk("/-/channels").then((a) => a.json()),
      fetch("/-/limits", { headers: headers() }).then((a) => (a.ok ? a.json() : { policies: [] })),
      fetchOk("/-/config/status").then((a) => a.json()),
    ]);
    const now = { at: performance.now(), samples: parse(metrics) };
    show(now, routes, channels.channels, limits.policies, status);
    before = now;
  } catch (error) {
    byId("state").textContent = String(error.message || error);
    byId("state").className = "bad";
  }
}

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  look();
});
look();
setInterval(() => { if (!document.hidden) look(); }, 2000);
