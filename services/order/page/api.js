// Talking to the shop: signs in silently, repeats what may be repeated, and says in one form what went wrong.
//
// Everything sent here may be sent twice: orders carry an Idempotency-Key, and everything else is idempotent by its
// path. So a lost answer is simply asked for again.

const TOKEN = 'tidegate.token';
const ATTEMPTS = 5;

/** An answer that is not a success; status 0 means that there was none. */
export class Refused extends Error {
  constructor(status, code, detail, retryAfter) {
    super(detail);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Whether the token is good for another minute. */
function isGood(token) {
  try {
    const claims = JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')));
    return claims.exp * 1000 > Date.now() + 60_000;
  } catch {
    return false;
  }
}

let signingIn = null;

async function token(onWait) {
  const known = localStorage.getItem(TOKEN);
  if (known && isGood(known)) return known;
  // One session even when several questions are asked at once.
  signingIn ??= send('POST', '/api/session', { onWait, signed: false }).finally(() => { signingIn = null; });
  const session = await signingIn;
  localStorage.setItem(TOKEN, session.token);
  return session.token;
}

/** Where the gateway says how a request stands that it carries out later. */
const LATER = '/.tidegate/async/';
/** Seconds for which an answer is waited for before it may come later. */
const PATIENCE = 3;

/** An answer that comes later; `place` says where. */
export class Later extends Error {
  constructor(place) {
    super('later');
    this.place = place;
  }
}

async function once(method, path, { body, key, later = false, signed = true, onWait }) {
  const headers = { Accept: 'application/json' };
  if (signed) headers.Authorization = `Bearer ${await token(onWait)}`;
  if (key) headers['Idempotency-Key'] = key;
  if (later) headers.Prefer = `respond-async, wait=${PATIENCE}`;
  if (body) headers['Content-Type'] = 'application/json';
  let answer;
  let text;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: 'no-store' });
    text = await answer.text();
  } catch {
    throw new Refused(0, 'OFFLINE', '', 0);
  }
  let value = {};
  try { value = JSON.parse(text); } catch { /* an answer without JSON is judged by its status */ }
  // Behind a waiting room: what leads back into it from a wallet, for this order.
  const reentry = answer.headers.get('X-Tidegate-Reentry');
  if (reentry && value.order_no) sessionStorage.setItem(`reentry:${value.order_no}`, reentry);
  const place = answer.headers.get('Location') ?? '';
  if (answer.status === 202 && place.startsWith(LATER)) throw new Later(place);
  if (answer.ok) return value;
  const retryAfter = Number.parseInt(answer.headers.get('Retry-After') ?? '', 10) || 0;
  throw new Refused(answer.status, value.code ?? '', value.detail ?? value.title ?? String(answer.status), retryAfter);
}

/** How a request stands that is carried out later; with `version` once it differs from that, `null` if not in 20 seconds. */
export async function standing(place, version) {
  const headers = { Authorization: `Bearer ${await token()}`, Accept: 'application/json' };
  if (version) Object.assign(headers, { 'If-None-Match': version, Prefer: 'wait=20' });
  const answer = await fetch(place, { headers, cache: 'no-store' });
  if (answer.status === 304) return null;
  if (!answer.ok) throw new Refused(answer.status, '', String(answer.status), 0);
  return { ...(await answer.json()), version: answer.headers.get('ETag') };
}

/**
 * Asks the shop. With `later` the answer may come later, which is thrown as `Later`. No connection, 502, 503 and 504 are tried again with the same key, after a growing pause with some
 * chance in it, or after the time the shop asked for; `onWait(why)` hears of it. Everything else is thrown at once.
 */
export async function send(method, path, options = {}) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await once(method, path, options);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 401 && attempt === 1) {
        localStorage.removeItem(TOKEN);
        continue;
      }
      const again = [0, 502, 503, 504].includes(error.status);
      if (!again || attempt >= ATTEMPTS) throw error;
      options.onWait?.(error.status === 0 ? 'offline' : 'busy');
      const pause = Math.min(400 * 2 ** attempt, 8_000) * (0.5 + Math.random());
      await sleep(Math.max(pause, error.retryAfter * 1000));
    }
  }
}
