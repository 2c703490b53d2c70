// An order that was accepted and waits to be made: says where it stands, by itself, until there is an order to look at.

import { Refused, send, sleep, standing } from './api.js';
import { $, frame, say } from './frame.js';
import { t } from './words.js';

const pending = JSON.parse(sessionStorage.getItem('pending') ?? 'null');
let now = null;
let over = '';

function words() {
  if (over) return over;
  if (!now) return '…';
  if (now.status === 'QUEUED' && now.place > 1) {
    return t('pendingPlace', { ahead: now.place - 1, n: Math.max(1, Math.ceil(now.eta_ms / 1000)) });
  }
  if (['RETRYING', 'DEAD_LETTER'].includes(now.status)) return t('pendingRetry');
  return t(['UNKNOWN', 'PARKED'].includes(now.status) ? 'pendingUnknown' : 'pendingRunning');
}

function draw() {
  $('pending-state').textContent = words();
  $('pending-cancel').hidden = Boolean(over) || !['QUEUED', 'RETRYING', 'DEAD_LETTER'].includes(now?.status);
}

/** Nothing follows: the next click in the shop is a new order. */
function end(text) {
  over = text;
  sessionStorage.removeItem('pending');
  if (pending) sessionStorage.removeItem(`intent:${pending.sku}`);
  $('pending').removeAttribute('aria-busy');
  draw();
}

/** The shop's own answer has come: the order's page goes on, or says why there is none. */
async function done() {
  try {
    const order = await send('GET', now.result);
    end('');
    sessionStorage.setItem(`password:${order.order_no}`, pending.password);
    location.replace(`/shop/order?no=${encodeURIComponent(order.order_no)}`);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 0 || error.status >= 500) return false;
    end(error.code === 'SOLD_OUT' ? t('soldOutNow') : t('orderFailed'));
  }
  return true;
}

async function watch() {
  for (;;) {
    const next = await standing(pending.place, now?.version).catch((error) => error);
    if (next instanceof Refused && next.status === 404) return end(t('unknownOrder'));
    if (next instanceof Error) await sleep(2_000);
    else if (next) now = next;
    draw();
    if (now && ['CANCELLED', 'EXPIRED'].includes(now.status)) return end(t('pendingGone'));
    if (now?.status === 'DONE' && (await done())) return undefined;
    // A place in line changes without being news.
    if (now?.status === 'QUEUED') {
      await sleep(1_000);
      now.version = null;
    }
  }
}

$('pending-cancel').addEventListener('click', async () => {
  await send('DELETE', pending.place).catch(() => {});
  say(t('cancelled'));
});

frame(draw);
draw();
if (pending) watch();
else location.replace('/');
