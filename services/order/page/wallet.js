// The simulated wallet: what the payer's own app would be. It agrees to the payment and goes back to the order.

import { send } from './api.js';
import { $, frame, press, say } from './frame.js';
import { money, t } from './words.js';

const asked = new URLSearchParams(location.search);
const no = asked.get('order') ?? '';
const paymentNo = asked.get('payment') ?? '';
const path = `/api/orders/${encodeURIComponent(no)}`;
const reentry = asked.get('tgwr');
const back = `/shop/order?no=${encodeURIComponent(no)}${reentry ? `&tgwr=${encodeURIComponent(reentry)}` : ''}`;

let payment = null;

function draw() {
  if (!payment) return;
  const open = payment.status === 'PENDING';
  $('wallet').dataset.channel = payment.channel ?? '';
  $('wallet-name').textContent = t(payment.channel ?? payment.method);
  $('wallet-amount').textContent = money(payment.amount, payment.currency);
  $('wallet-order').textContent = `${t('orderNo')} ${no}`;
  $('wallet-confirm').disabled = !open;
  if (!open) say(t('walletOver'));
}

$('wallet-back').href = back;
$('wallet-confirm').addEventListener('click', () => press($('wallet-confirm'), t('confirming'), () => t('confirm'),
  async (onWait) => {
    await send('POST', `${path}/payments/${encodeURIComponent(paymentNo)}/confirm`, { onWait });
    location.assign(back);
  },
  (error) => {
    // Paid or closed in the meantime: the order knows.
    if (error.code === 'WRONG_STATE') location.assign(back);
    return error.code === 'WRONG_STATE';
  }));

frame(draw);
send('GET', path).then((order) => {
  payment = order.payments.find((one) => one.payment_no === paymentNo);
  if (!payment) say(t('unknownOrder'));
  draw();
}, () => say(t('unknownOrder')));
