"use strict";
// A browser too old to read this loads the page again instead; see the short script before it.
window.tidegate = true;
(() => {
  const $ = (id) => document.getElementById(id);
  const words = JSON.parse($("words").textContent);
  let now = JSON.parse($("first").textContent);
  let lang = document.documentElement.lang in words ? document.documentElement.lang : "en";
  let timer = 0, offset = 0, best = 0, said = 0, saidText = "", failures = 0, strange = 0, busy = false, looked = 0, ended = 0, source = null, deaf = 0, flight = null, held = false;
  const word = (name, with_ = {}) => (words[lang][name] ?? "").replace(/\{(\w+)\}/g, (_, key) => with_[key] ?? "");
  const number = (value) => new Intl.NumberFormat(lang).format(value);
  const show = (id, on) => { $(id).hidden = !on; };

  // "3 minutes", "1 hour 20 minutes": never finer than what is known.
  const unit = (name, value) => word(value === 1 && words[lang][name + 1] ? name + 1 : name, { n: number(value) });
  const span = (seconds) => {
    if (seconds < 60) return unit("s", Math.max(5, Math.ceil(seconds / 5) * 5));
    const minutes = Math.ceil(seconds / 60);
    if (minutes < 90) return unit("m", minutes);
    return unit("h", Math.floor(minutes / 60)) + (minutes % 60 ? word("join") + unit("m", minutes % 60) : "");
  };
  const clock = (seconds) => {
    const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
    const two = (n) => String(n).padStart(2, "0");
    return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
  };
  const remaining = (until) => Math.max(0, (until - (Date.now() + offset)) / 1000);
  const eta = () => now.waitTimeSeconds == null ? word("etaUnknown") : word("eta", { t: span(now.waitTimeSeconds) });

  // What is shown: headline, detail, whether there is a place in line.
  const view = () => {
    if (now.state === "LEFT") return ["gone", "leftDetail", false];
    if (now.state === "READY") return ["turn", "turnDetail", false];
    if (now.soldOut || now.reason === "sold_out") return ["soldOut", "soldOutDetail", false];
    if (now.state === "PREQUEUED") return ["before", "beforeDetail", false];
    if (now.state === "EXPIRED") return ["missed", "missedDetail", false];
    if (now.reason === "queue_full") return ["full", "fullDetail", false];
    if (now.state === "REJECTED") return ["rejected", "rejectedDetail", false];
    return now.paused ? ["paused", "pausedDetail", true] : ["waiting", "calm", true];
  };
  const over = () => ["REJECTED", "LEFT", "EXPIRED"].includes(now.state);

  const paint = () => {
    const [headline, detail, place] = view();
    const ahead = now.state === "PRE" ? null : now.positionAhead;
    document.body.dataset.state = headline === "soldOut" ? "SOLD_OUT" : now.state;
    if (now.state !== "PREQUEUED" || !now.startsAt) $("headline").textContent = word(headline);
    $("detail").textContent = word(detail);
    $("count").textContent = ahead == null ? "–" : ahead ? number(ahead) : "";
    $("unit").textContent = ahead == null ? "" : ahead ? word(ahead === 1 && words[lang].ahead1 ? "ahead1" : "ahead") : word("next");
    $("eta").textContent = now.paused ? "" : eta();
    $("ticket").textContent = now.ticketNumber == null ? "–" : number(now.ticketNumber);
    $("serving").textContent = now.servingNumber == null ? "–" : number(now.servingNumber);
    $("pace").textContent = now.ratePerMinute == null ? "–" : number(Math.round(now.ratePerMinute));
    show("place", place);
    show("facts", place);
    show("turn", now.state === "READY");
    show("offers", place || now.state === "READY" || now.state === "PREQUEUED");
    show("sound", now.state !== "READY");
    show("again", now.state === "EXPIRED" || now.state === "LEFT");
    const notice = failures > 1 ? word("offline") : strange > 1 ? word("cookies") : now.message;
    $("notice").textContent = notice ?? "";
    document.title = (now.state === "READY" ? "● " : place && ahead ? `${number(ahead)} · ` : "") + word(now.state === "READY" ? "turn" : place ? "title" : headline);
    if (ahead != null) best = Math.max(best, ahead, 1);
    const low = now.state === "READY" ? 8 : place && ahead != null ? 30 + 50 * Math.min(1, ahead / best) : 80;
    $("tide").style.setProperty("--low", low + "%");
    announce(headline, place);
    tick();
  };

  // Only when something changed, and not more often than every 30 seconds: a listener is not to be talked over.
  const announce = (headline, place) => {
    const text = place && now.positionAhead != null ? word("say", { n: number(now.positionAhead), eta: now.paused ? word("paused") : eta() }) : word(headline);
    if (now.state === "READY") { if ($("alert").textContent !== text) $("alert").textContent = text; return; }
    $("alert").textContent = "";
    if (text !== saidText && (Date.now() - said > 30000 || !place)) { $("status").textContent = saidText = text; said = Date.now(); }
  };

  const tick = () => {
    if (now.state === "READY" && now.readyUntil) {
      const left = remaining(now.readyUntil);
      $("left").textContent = word("left", { t: clock(left) });
      if (left === 0 && !busy && ended !== now.readyUntil) { ended = now.readyUntil; soon(500); }
    }
    if (now.state === "PREQUEUED" && now.startsAt) $("headline").textContent = `${word("starts")} ${clock(remaining(now.startsAt))}`;
  };

  // A hidden tab looks rarely, but it does: whoever is silent counts as gone.
  const quiet = () => document.hidden && !$("ring").checked;
  const soon = (ms) => { clearTimeout(timer); timer = setTimeout(look, quiet() ? Math.max(ms, 15000) : ms); };
  // Without a stream a look waits at the gateway until there is news.
  const waits = () => !failures && now.longPollSeconds && ["WAITING", "PREQUEUED"].includes(now.state) && !quiet() && !(source && source.readyState === 1);
  // Where nobody tells us, the document that is the same for all does: it costs next to nothing, so it may be read often.
  const peeks = () => ["WAITING", "PREQUEUED"].includes(now.state) && !quiet() && !(source && source.readyState === 1) && !held;
  const glance = async () => {
    if (peeks()) try {
      const seen = await (await fetch(now.frontierUrl, { cache: "no-cache" })).json();
      // A cache may still have what was true before a reset; and not all load the page anew at once.
      if (seen.epoch > now.epoch) return setTimeout(() => location.reload(), 2000 * Math.random());
      if (seen.epoch === now.epoch && peeks()) { became(seen.state); moved(seen); }
    } catch { /* The next look says what is wrong. */ }
    setTimeout(glance, now.frontierAfterMs || 1000);
  };
  const again = () => soon(waits() ? 300 + 700 * Math.random() : now.pollAfterMs);
  const take = (next, waited) => {
    const before = now.state;
    if (next.serverTime) offset = next.serverTime - Date.now();
    now = next;
    if (now.state === "ADMITTED" || now.state === "OPEN") return location.reload();
    strange = now.state === "PRE" ? strange + 1 : 0;
    if (now.state === "READY" && before !== "READY") ring();
    paint();
    listen();
    if (over()) return;
    if (strange > 1) soon(15000); else if (waited) again(); else soon(now.pollAfterMs);
  };

  const ask = async (url, method, more = {}, signal = undefined) => {
    const headers = { accept: "application/json", ...more };
    if (method === "POST") headers["x-tidegate-room"] = "page";
    const answer = await fetch(url, { method, headers, signal, cache: "no-store", credentials: "same-origin" });
    const told = await answer.json().catch(() => ({}));
    const waited = answer.headers.has("preference-applied");
    return { status: answer.status, waited, later: 1000 * (Number(answer.headers.get("retry-after")) || 2), room: told.waitingRoom };
  };

  const look = async () => {
    looked = Date.now();
    if (flight) flight.abort();
    const mine = flight = new AbortController();
    try {
      held = waits();
      const wait = held ? { prefer: `wait=${now.longPollSeconds}`, "if-none-match": now.tag } : {};
      const { status, later, room, waited } = now.state === "PRE" ? await ask(now.joinUrl, "POST") : await ask(now.statusUrl, "GET", wait, mine.signal);
      if (mine !== flight) return;
      held = false;
      failures = 0;
      // Who is entering or leaving is told by the answer to that.
      if (busy || now.state === "LEFT") return;
      if (room) return take(room, waited);
      if (status === 429) return soon(later);
      // The place is gone, or was given by a room that has begun anew: the address itself says what is next.
      if (status >= 400 && status < 500) return location.reload();
      throw new Error(status);
    } catch {
      if (mine !== flight) return;
      held = false;
      failures += 1;
      paint();
      soon(Math.min(30000, 1000 * 2 ** failures) * (0.7 + 0.6 * Math.random()));
    }
  };

  // People before us, from how many wait up to each of some numbers: exact where the numbers are close.
  const place = (live, frontier) => {
    const mine = now.ticketNumber - 1;
    let [from, people] = [frontier, 0];
    for (const [number, count] of live) {
      if (number > mine) return people + Math.round((count - people) * Math.max(0, mine - from) / (number - from));
      [from, people] = [number, count];
    }
    return people;
  };

  // Near the front the turn is pushed. Not to hidden tabs: a browser has few connections.
  const listen = () => {
    const wanted = now.state === "WAITING" && now.eventsUrl && !document.hidden && window.EventSource && Date.now() > deaf;
    if (!wanted && source) { source.close(); source = null; }
    if (!wanted || source) return;
    source = new EventSource(now.eventsUrl);
    // Too many listen, or something between does not let events through: looks wait instead.
    source.addEventListener("error", () => {
      if (!source || source.readyState !== 2) return;
      source = null;
      deaf = Date.now() + 60000;
      if (!over()) again();
    });
    source.addEventListener("turn", (event) => {
      const { readyUntil } = JSON.parse(event.data);
      // Without a time the turn was taken elsewhere, or is over: the address itself says what is next.
      return readyUntil ? take({ ...now, state: "READY", readyUntil, positionAhead: 0, serverTime: null }) : location.reload();
    });
    source.addEventListener("state", (event) => {
      const { state } = JSON.parse(event.data);
      if (state === "reset") return location.reload();
      became(state);
    });
    source.addEventListener("message", (event) => { now.message = JSON.parse(event.data).message; paint(); });
    source.addEventListener("frontier", (event) => moved(JSON.parse(event.data)));
  };

  const became = (state) => {
    now.roomState = state;
    now.soldOut = state === "sold_out";
    now.paused = state === "queue_all" || state === "draining" || now.degraded;
    paint();
  };
  const moved = ({ frontier, live, waiting, ratePerSec }) => {
    if (now.state !== "WAITING") return;
    const ahead = place(live, frontier);
    // What is left to wait shrinks with the line until the next look says it anew.
    if (now.waitTimeSeconds && now.positionAhead) now.waitTimeSeconds *= (ahead + 1) / (now.positionAhead + 1);
    Object.assign(now, { servingNumber: frontier, positionAhead: ahead, queueLength: waiting });
    if (ratePerSec != null) now.ratePerMinute = ratePerSec * 60;
    paint();
  };

  const ring = () => {
    if (navigator.vibrate) navigator.vibrate([200, 100, 200]);
    if (!$("ring").checked) return;
    const audio = new (window.AudioContext || window.webkitAudioContext)();
    [0, 0.25, 0.5].forEach((at, i) => {
      const [tone, gain] = [audio.createOscillator(), audio.createGain()];
      tone.frequency.value = [660, 880, 990][i];
      gain.gain.setValueAtTime(0.2, audio.currentTime + at);
      gain.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + at + 0.4);
      tone.connect(gain).connect(audio.destination);
      tone.start(audio.currentTime + at);
      tone.stop(audio.currentTime + at + 0.45);
    });
  };

  const entering = (on) => {
    busy = $("enter").disabled = on;
    $("enter").textContent = word(on ? "entering" : "enter");
  };
  $("enter").addEventListener("click", async () => {
    entering(true);
    const { status, room } = await ask(now.claimUrl, "POST").catch(() => ({}));
    if (status === 200 || (status >= 400 && status < 500)) return location.reload();
    entering(false);
    room ? take(room) : soon(1000);
  });
  $("leave").addEventListener("click", async () => {
    busy = true;
    if (source) { source.close(); source = null; }
    const { room } = await ask(now.leaveUrl, "POST").catch(() => ({}));
    busy = false;
    clearTimeout(timer);
    room ? take(room) : soon(1000);
  });
  document.addEventListener("visibilitychange", () => {
    listen();
    // A look that waits holds a connection that others of the browser's may need.
    if (quiet() && flight && !over()) { flight.abort(); flight = null; held = false; soon(15000); }
    if (!document.hidden && !over()) soon(Math.max(300, now.pollAfterMs / 2 - (Date.now() - looked)));
  });
  addEventListener("online", () => { if (!over()) soon(200); });

  const speak = (choice) => {
    lang = choice;
    document.documentElement.lang = lang;
    document.querySelectorAll("[data-word]").forEach((node) => { node.textContent = word(node.dataset.word); });
    document.querySelectorAll("#languages a").forEach((link) => {
      if (link.lang === lang) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    });
    saidText = "";
    paint();
  };
  document.querySelectorAll("#languages a").forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    history.replaceState(null, "", link.href);
    speak(link.lang);
  }));
  // A listener hears of the place from the live region, in sentences; the numbers themselves change too often.
  $("ahead").setAttribute("aria-hidden", "true");
  if (now.serverTime) offset = now.serverTime - Date.now();
  looked = Date.now();
  speak(lang);
  setInterval(tick, 250);
  listen();
  // A stream that opens by then makes a look that waits needless.
  if (!over()) soon(now.state === "PRE" ? 50 : waits() ? 1500 : now.pollAfterMs);
  setTimeout(glance, now.frontierAfterMs || 1000);
})();
