// The shelves: products with their stock, buying, and the orders made so far.

import { Later, send, sleep } from './api.js';
import { $, frame, make, press, say } from './frame.js';
import { lang, money, t, when } from './words.js';

const REFRESH_MS = 4_000;
const password = $('query-password');

/** The sale has a page of its own, behind the waiting room; only there its product is bought. */
const inSale = location.pathname === '/sale';
let sale = null;
let products = [];
let orders = [];
/** SKUs that are being bought; their buttons are left alone. */
const busy = new Set();
/** SKUs that the shop said are gone, until it lists them again. */
const gone = new Set();

/** The key of the order somebody is about to place. It is made by the first click and kept until the answer is final. */
function intent(sku) {
  const name = `intent:${sku}`;
  const key = sessionStorage.getItem(name) ?? crypto.randomUUID();
  sessionStorage.setItem(name, key);
  return key;
}
const forget = (sku) => sessionStorage.removeItem(`intent:${sku}`);

function passwordIsGood() {
  const good = password.value.length >= 6;
  password.setAttribute('aria-invalid', String(!good));
  if (good) return true;
  say(t('passwordShort'));
  password.focus();
  password.scrollIntoView({ block: 'center', behavior: 'smooth' });
  return false;
}

async function buy(sku, button) {
  if (sku === sale && !inSale) return location.assign('/sale');
  if (!passwordIsGood()) return;
  busy.add(sku);
  const place = async (onWait) => {
    const body = { sku, qty: 1, query_password: password.value };
    // A sale has a line of its own; anybody else's order may be made a little later.
    const [path, later] = inSale ? ['/api/sale/orders', false] : ['/api/orders', true];
    const order = await send('POST', path, { body, key: intent(sku), later, onWait });
    forget(sku);
    sessionStorage.setItem(`password:${order.order_no}`, password.value);
    say(t('placed'));
    location.assign(`/shop/order?no=${encodeURIComponent(order.order_no)}`);
  };
  const handle = (error) => {
    if (error instanceof Later) {
      // Accepted and not done: the page of requests that are under way goes on from here.
      sessionStorage.setItem('pending', JSON.stringify({ place: error.place, sku, password: password.value }));
      location.assign('/shop/pending');
      return true;
    }
    // These answers are final: the next click is a new order.
    if ([400, 404, 409, 422].includes(error.status)) forget(sku);
    if (error.code !== 'SOLD_OUT') return false;
    gone.add(sku);
    say(t('soldOutNow'));
    return true;
  };
  await press(button, t('buying'), () => t('buy'), place, handle);
  busy.delete(sku);
  draw();
}

function stockLine({ band, stock, sku }) {
  const shown = gone.has(sku) ? 'sold_out' : band;
  return make('p', { className: `stock ${shown}` }, t(shown, { n: stock }));
}

function card(product) {
  const { sku, price, currency } = product;
  const out = product.band === 'sold_out' || gone.has(sku);
  const name = product[`name_${lang}`];
  const button = make('button', { id: `buy-${sku}`, className: 'button', type: 'button', disabled: out });
  button.textContent = out ? t('soldOut') : t('buy');
  button.setAttribute('aria-label', `${button.textContent} ${name}`);
  button.addEventListener('click', () => buy(sku, button));
  const face = make('div', { className: 'face' }, make('span', {}, sku.replace(/[-_]/g, ' ')));
  face.setAttribute('aria-hidden', 'true');
  const price_ = make('p', { className: 'price' }, money(price, currency));
  const words = make('div', { className: 'words' },
    make('h3', {}, name), make('p', { className: 'hint' }, product[`description_${lang}`]), stockLine(product));
  const article = make('article', { className: out ? 'card out' : 'card' },
    face, words, make('div', { className: 'buyrow' }, price_, button));
  article.dataset.sku = sku;
  article.dataset.tone = String(products.indexOf(product) % 4);
  return article;
}

function draw() {
  const shelf = $('products');
  for (const product of products) {
    const old = shelf.querySelector(`[data-sku="${CSS.escape(product.sku)}"]`);
    // A card under the finger is not replaced.
    if (old && (busy.has(product.sku) || old.contains(document.activeElement))) {
      old.querySelector('.stock').replaceWith(stockLine(product));
    } else if (old) {
      old.replaceWith(card(product));
    } else {
      shelf.append(card(product));
    }
  }
  shelf.querySelector('.empty')?.remove();
  if (products.length === 0) shelf.append(make('p', { className: 'hint empty' }, t('noProducts')));
  $('orders-section').hidden = orders.length === 0;
  $('orders').replaceChildren(...orders.slice(0, 8).map((order) => {
    const link = make('a', { href: `/shop/order?no=${encodeURIComponent(order.order_no)}` },
      make('span', { className: 'when' }, when(order.created_at)),
      make('span', { className: 'what' }, products.find(({ sku }) => sku === order.sku)?.[`name_${lang}`] ?? order.sku),
      make('span', { className: 'sum' }, money(order.amount, order.currency)),
      make('span', { className: `badge ${order.status}` }, t(order.status)));
    return make('li', {}, link);
  }));
}

async function refresh() {
  const answer = await send('GET', '/api/products', { signed: false });
  sale ??= (await send('GET', '/api/sale', { signed: false })).sku;
  products = answer.products.filter(({ sku }) => !inSale || sku === sale);
  for (const { sku, band } of products) if (band !== 'sold_out') gone.delete(sku);
  $('products').removeAttribute('aria-busy');
  draw();
}

async function watch() {
  for (let pause = REFRESH_MS; ;) {
    await sleep(pause);
    if (document.hidden) continue;
    try {
      await refresh();
      pause = REFRESH_MS;
    } catch {
      // The shelves stay as they were; ask less often until it works again.
      pause = Math.min(pause * 2, 60_000);
    }
  }
}

// Another password is another order.
password.addEventListener('input', () => {
  password.removeAttribute('aria-invalid');
  for (const name of Object.keys(sessionStorage)) if (name.startsWith('intent:')) sessionStorage.removeItem(name);
});

frame(() => {
  $('products').replaceChildren();
  draw();
});
refresh().catch(() => { say(t('again')); draw(); }).finally(watch);
send('GET', '/api/orders').then((answer) => { orders = answer.orders; draw(); }).catch(() => {});
