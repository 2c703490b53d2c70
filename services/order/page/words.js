// The words of the shop in both languages, and how money and times are written.

const WORDS = {
  zh: {
    shop: '潮汐卡铺', other: 'English',
    headline: '付款即发，一码一人', promise: '付款后几秒内自动发货。凭查询密码查看卡密，每个卡密只售一次。',
    password: '查询密码', passwordHint: '至少 6 位。查看卡密时要用，请记住它。', passwordShort: '请先设置至少 6 位的查询密码。',
    products: '商品', orders: '我的订单', buy: '购买', buying: '正在下单…', soldOut: '已售罄',
    plenty: '库存充足', few: '仅剩 {n} 件', sold_out: '已售罄', noProducts: '商品正在上架，请稍后再来。',
    placed: '下单成功，正在前往付款。', soldOutNow: '来晚了一步，这件商品刚刚售罄。',
    slow: '慢一点，{n} 秒后再试', busy: '店里人多，正在为你重试…', offline: '网络不太好，正在用同一笔订单重试…',
    failed: '没有成功：{why}', gone: '网络连不上。没有重复下单，可以放心再点一次。', again: '请再试一次',
    orderFailed: '这笔订单没有成功，请重新购买。', keyReused: '请再点一次购买。',
    back: '← 回到商店', orderNo: '订单号', quantity: '数量', placedAt: '下单时间',
    stepOrder: '下单', stepPay: '付款', stepKey: '取货', payWith: '选择付款方式',
    any: '最快通道', alipay: '支付宝', wechat: '微信支付', union: '银联', payContinue: '继续付款', payOther: '换一种方式',
    paying: '正在打开{channel}…', payOpen: '等待你在{channel}付款', payOpenHint: '付好之后，这里会自动更新。',
    payUnknown: '正在确认付款结果', payUnknownHint: '{channel}还没有答复。请不要重复付款，结果出来后这里会自动更新。',
    declined: '{channel}没有接受这笔付款，可以换一种方式。', unreachable: '暂时连不上{channel}，没有扣款，可以换一种方式。',
    closing: '正在关闭这笔付款…', yourKeys: '你的卡密', showKeys: '查看卡密', copy: '复制', copied: '已复制',
    wrongPassword: '查询密码不对。', noKeysYet: '卡密马上就到。', cancel: '取消订单', cancelled: '订单已取消。',
    pendingTitle: '支付处理中', pendingHint: '人多的时候要排一会儿队。订单已经收好，不会丢，也不会重复；结果出来后这里会自动更新。',
    pendingPlace: '前面还有 {ahead} 位，预计 {n} 秒', pendingRunning: '正在处理你的订单…', pendingRetry: '正在为你重试…', pendingUnknown: '正在人工确认这笔订单的结果，请不要重复下单。',
    pendingCancel: '不等了', pendingGone: '这笔订单没有执行，没有扣款，可以重新购买。',
    left: '请在 {time} 内付款', simulated: '模拟钱包，不会真的扣款', payee: '收款方：潮汐卡铺',
    confirm: '确认付款', confirming: '正在付款…', payLater: '先不付', walletOver: '这笔付款已经结束。', unknownOrder: '没有找到这笔订单。',
    CREATING: '正在下单', PENDING_PAYMENT: '等待付款', CLOSING: '正在关闭', PAID: '已付款，正在发货', DELIVERED: '已发货',
    REFUNDING: '正在退款', REFUNDED: '已退款', FAILED: '未成功', CANCELLED: '已取消', EXPIRED: '已过期',
    hint_CREATING: '正在为你留货。', hint_PAID: '几秒钟就好。', hint_CLOSING: '正在和支付渠道确认，请稍候。',
    hint_REFUNDING: '很抱歉，商品没有了，钱正在原路退回。', hint_REFUNDED: '钱已原路退回。',
    hint_FAILED: '没有扣款，可以重新购买。', hint_CANCELLED: '没有扣款。', hint_EXPIRED: '没有在规定时间内付款，商品已放回。',
  },
  en: {
    shop: 'Tide Cards', other: '中文',
    headline: 'Paid is delivered', promise: 'Your key arrives seconds after you pay. Only your query password opens it, and no key is sold twice.',
    password: 'Query password', passwordHint: 'At least 6 characters. You need it to see your key, so remember it.',
    passwordShort: 'Choose a query password of at least 6 characters first.',
    products: 'Products', orders: 'My orders', buy: 'Buy', buying: 'Placing order…', soldOut: 'Sold out',
    plenty: 'In stock', few: 'Only {n} left', sold_out: 'Sold out', noProducts: 'Nothing on the shelves yet. Come back in a moment.',
    placed: 'Order placed. On to the payment.', soldOutNow: 'A moment too late: this has just sold out.',
    slow: 'Easy: try again in {n} s', busy: 'The shop is full. Trying again for you…', offline: 'The network is shaky. Trying again with the same order…',
    failed: 'That did not work: {why}', gone: 'No connection. Nothing was ordered twice; you can safely try again.', again: 'Try again',
    orderFailed: 'This order did not succeed. Please buy again.', keyReused: 'Please press buy once more.',
    back: '← Back to the shop', orderNo: 'Order', quantity: 'Quantity', placedAt: 'Placed',
    stepOrder: 'Order', stepPay: 'Pay', stepKey: 'Pick up', payWith: 'How would you like to pay?',
    any: 'Fastest', alipay: 'Alipay', wechat: 'WeChat Pay', union: 'UnionPay', payContinue: 'Continue', payOther: 'Pay another way',
    paying: 'Opening {channel}…', payOpen: 'Waiting for you to pay with {channel}', payOpenHint: 'This page notices by itself when you have paid.',
    payUnknown: 'Finding out whether you have paid', payUnknownHint: '{channel} has not answered yet. Please do not pay again; this page shows the result by itself.',
    declined: '{channel} declined the payment. You can pay another way.', unreachable: '{channel} cannot be reached. Nothing was charged; you can pay another way.',
    closing: 'Closing this payment…', yourKeys: 'Your keys', showKeys: 'Show keys', copy: 'Copy', copied: 'Copied',
    wrongPassword: 'That is not the query password.', noKeysYet: 'The key is on its way.', cancel: 'Cancel order', cancelled: 'Order cancelled.',
    pendingTitle: 'Your order is being processed', pendingHint: 'When many people buy, it takes a moment. Your order is safe: it is neither lost nor made twice, and this page shows the result by itself.',
    pendingPlace: '{ahead} before you, about {n} s', pendingRunning: 'Your order is being made…', pendingRetry: 'Trying again for you…', pendingUnknown: 'Somebody is finding out what became of this order. Please do not order again.',
    pendingCancel: 'Do not wait', pendingGone: 'This order was not made and nothing was charged. You can buy again.',
    left: 'Please pay within {time}', simulated: 'Simulated wallet: no real money moves', payee: 'To: Tide Cards',
    confirm: 'Confirm payment', confirming: 'Paying…', payLater: 'Not now', walletOver: 'This payment is over.', unknownOrder: 'There is no such order.',
    CREATING: 'Placing order', PENDING_PAYMENT: 'Waiting for payment', CLOSING: 'Closing', PAID: 'Paid, delivering', DELIVERED: 'Delivered',
    REFUNDING: 'Refunding', REFUNDED: 'Refunded', FAILED: 'Did not succeed', CANCELLED: 'Cancelled', EXPIRED: 'Expired',
    hint_CREATING: 'Putting your key aside.', hint_PAID: 'Just a few seconds.', hint_CLOSING: 'Checking with the payment channel.',
    hint_REFUNDING: 'Sorry, there are no keys left. Your money is on its way back.', hint_REFUNDED: 'Your money is back.',
    hint_FAILED: 'Nothing was charged. You can buy again.', hint_CANCELLED: 'Nothing was charged.', hint_EXPIRED: 'It was not paid in time, so the key went back on the shelf.',
  },
};

const wish = localStorage.getItem('tidegate.lang') ?? (navigator.language.startsWith('zh') ? 'zh' : 'en');

/** The language in use: `zh` or `en`. */
export let lang = wish === 'en' ? 'en' : 'zh';

/** Takes the other language and remembers it. */
export function toggle() {
  lang = lang === 'zh' ? 'en' : 'zh';
  localStorage.setItem('tidegate.lang', lang);
}

/** The words for `key`, with `{names}` filled in. */
export function t(key, values = {}) {
  const text = WORDS[lang][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Whether there are words for `key`. */
export const has = (key) => key in WORDS[lang];

/** Minor units as a price, without a detour through floating point. */
export function money(minor, currency = 'CNY') {
  const sign = currency === 'CNY' ? '¥' : `${currency} `;
  const whole = String(Math.trunc(minor / 100)).replace(/\B(?=(\d{3})+$)/g, ',');
  return `${sign}${whole}.${String(minor % 100).padStart(2, '0')}`;
}

/** A time as people here write it. */
export function when(text) {
  const format = new Intl.DateTimeFormat(lang === 'zh' ? 'zh-CN' : 'en', { dateStyle: 'medium', timeStyle: 'short' });
  return format.format(new Date(text));
}
