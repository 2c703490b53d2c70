// One order from payment to its keys. The shop says by itself when something happens to it; where that is not heard, the
// page looks again every second, then less and less often, until the order is final.

import { send, sleep } from './api.js';
import { $, frame, make, press, say } from './frame.js';
import { lang, money, t, when } from './words.js';

const no = new URLSearchParams(location.search).get('no') ?? '';
const path = `/api/orders/${encodeURIComponent(no)}`;
/** Where a payment goes on; the wallet leads back by a link that opens the waiting room in any browser. */
const wallet = (url) => {
  const reentry = sessionStorage.getItem(`reentry:${no}`);
  return reentry ? `${url}&tgwr=${encodeURIComponent(reentry)}` : url;
};
const FINAL = ['DELIVERED', 'REFUNDED', 'FAILED', 'CANCELLED', 'EXPIRED'];
const SLOWEST_MS = 10_000;

let order = null;
let names = {};
let keys = [];
let pause = 1_000;
/** While something is under way because of a click, the answer to that click decides what is shown. */
let acting = false;

const live = () => order.payments.find(({ status }) => ['CREATED', 'PENDING', 'UNKNOWN'].includes(status));

function left() {
  const seconds = Math.max(0, Math.round((Date.parse(order.expires_at) - Date.now()) / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

function hint() {
  if (order.status === 'PENDING_PAYMENT') return t('left', { time: left() });
  return order.status === 'DELIVERED' ? '' : t(`hint_${order.status}`);
}

function drawSteps() {
  const done = { PENDING_PAYMENT: 1, CLOSING: 1, PAID: 2, REFUNDING: 2, DELIVERED: 3 }[order.status] ?? 0;
  [...$('steps').children].forEach((step, index) => {
    step.className = index < done ? 'done' : index === done ? 'now' : '';
  });
  $('steps').hidden = ['FAILED', 'CANCELLED', 'EXPIRED', 'REFUNDED', 'REFUNDING'].includes(order.status);
}

function drawPayment() {
  const payment = live();
  const payable = order.status === 'PENDING_PAYMENT';
  $('pay').hidden = !payable || Boolean(payment);
  $('paying').hidden = !payment;
  $('cancel').hidden = !payable;
  if (!payment) return;
  const channel = t(payment.channel ?? payment.method);
  const open = payment.status === 'PENDING' && payment.pay_url !== null;
  $('paying-title').textContent = t(open ? 'payOpen' : 'payUnknown', { channel });
  $('paying-hint').textContent = t(open ? 'payOpenHint' : 'payUnknownHint', { channel });
  $('pay-continue').hidden = !open;
  $('pay-other').hidden = !open;
  if (open) $('pay-continue').href = wallet(payment.pay_url);
}

function drawKeys() {
  $('keys').hidden = order.status !== 'DELIVERED';
  $('keys-form').hidden = keys.length > 0;
  $('key-list').replaceChildren(...keys.map((key) => {
    const copy = make('button', { className: 'quiet', type: 'button' }, t('copy'));
    copy.addEventListener('click', async () => {
      await navigator.clipboard.writeText(key).then(() => say(t('copied')), () => select(code));
    });
    const code = make('code', { className: 'card-key' }, key);
    return make('li', {}, code, copy);
  }));
}

/** Where the clipboard is closed to us, the key is at least marked. */
function select(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}

function draw() {
  if (!order) return;
  $('order').removeAttribute('aria-busy');
  $('order-status').textContent = t(order.status);
  $('order-status').className = `badge ${order.status}`;
  $('order-title').textContent = names[order.sku]?.[lang] ?? order.sku;
  $('order-amount').textContent = money(order.amount, order.currency);
  $('order-hint').textContent = hint();
  $('order-no').textContent = order.order_no;
  $('order-qty').textContent = order.qty;
  $('order-time').textContent = when(order.created_at);
  drawSteps();
  drawPayment();
  drawKeys();
}

async function look() {
  const before = order?.status;
  order = await send('GET', path);
  if (before && before !== order.status) say(t(order.status));
  draw();
  if (order.status === 'DELIVERED' && keys.length === 0) await showKnown();
}

/** The password is known in this tab if the order was placed here. */
async function showKnown() {
  const password = sessionStorage.getItem(`password:${no}`);
  if (password) await show(password).catch(() => {});
}

async function show(password, onWait) {
  const answer = await send('POST', `${path}/keys`, { body: { query_password: password }, onWait });
  keys = answer.keys;
  if (keys.length === 0) say(t('noKeysYet'));
  drawKeys();
}

async function watch() {
  while (!order || !FINAL.includes(order.status)) {
    await sleep(pause);
    pause = Math.min(pause * 1.25, SLOWEST_MS);
    if (document.hidden || acting) continue;
    // A question that failed is asked again at the next turn.
    await look().catch(() => {});
  }
}

/** Hears what happens to this order and looks at once. A stream that breaks is opened anew: its ticket is used up. */
async function listen() {
  const { ticket } = await send('POST', '/api/events/ticket');
  const stream = new EventSource(`/api/events?ticket=${encodeURIComponent(ticket)}`);
  stream.addEventListener('order', async ({ data }) => {
    if (JSON.parse(data).order_no !== no || acting) return;
    await look().catch(() => {});
    if (FINAL.includes(order?.status)) stream.close();
  });
  stream.addEventListener('error', async () => {
    stream.close();
    await sleep(SLOWEST_MS);
    // Until then, and where there are no events, looking is enough.
    if (!FINAL.includes(order?.status)) listen().catch(() => {});
  });
}

/** What the buyer did changes things: look closely again. */
async function act(button, busy, idle, work, handle) {
  acting = true;
  await press(button, busy, idle, work, handle);
  acting = false;
  pause = 1_000;
  await look().catch(() => {});
}

for (const button of document.querySelectorAll('[data-channel]')) {
  const { channel } = button.dataset;
  button.addEventListener('click', () => act(button, t('paying', { channel: t(channel) }), () => t(channel), async (onWait) => {
    const payment = await send('POST', `${path}/payments`, { body: { channel }, onWait });
    if (payment.pay_url) location.assign(wallet(payment.pay_url));
    if (payment.status === 'DECLINED') say(t('declined', { channel: t(channel) }));
  }, (error) => {
    if (error.code === 'CHANNEL_UNAVAILABLE') say(t('unreachable', { channel: t(channel) }));
    return error.code === 'CHANNEL_UNAVAILABLE';
  }));
}

$('pay-other').addEventListener('click', () => act($('pay-other'), t('closing'), () => t('payOther'), (onWait) =>
  send('POST', `${path}/payments/${encodeURIComponent(live().payment_no)}/close`, { onWait })));

$('cancel').addEventListener('click', () => act($('cancel'), t('closing'), () => t('cancel'), (onWait) =>
  send('POST', `${path}/cancel`, { onWait })));

$('keys-form').addEventListener('submit', (event) => {
  event.preventDefault();
  press($('show-keys'), t('showKeys'), () => t('showKeys'), (onWait) => show($('query-password').value, onWait),
    (error) => {
      if (error.code === 'WRONG_PASSWORD') say(t('wrongPassword'));
      return error.code === 'WRONG_PASSWORD';
    });
});

document.addEventListener('visibilitychange', () => { pause = 1_000; });
setInterval(() => { if (order?.status === 'PENDING_PAYMENT') $('order-hint').textContent = hint(); }, 1_000);

frame(draw);
send('GET', '/api/products', { signed: false }).then(({ products }) => {
  names = Object.fromEntries(products.map(({ sku, name_zh, name_en }) => [sku, { zh: name_zh, en: name_en }]));
  draw();
}).catch(() => {});
look().then(() => {
  if (!FINAL.includes(order.status)) listen().catch(() => {});
  return watch();
}, (error) => {
  if (error.status === 404) {
    $('order-title').textContent = t('unknownOrder');
    say(t('unknownOrder'));
  } else {
    watch();
  }
});
