// What all pages have: the words in place, the language switch, the one line that speaks, countdowns.

import { has, lang, t, toggle } from './words.js';
import { Later, Refused, sleep } from './api.js';

export const $ = (id) => document.getElementById(id);

/** Makes an element: `make('p', { className: 'hint' }, 'text', child)`. */
export function make(tag, members = {}, ...children) {
  const element = Object.assign(document.createElement(tag), members);
  element.append(...children);
  return element;
}

let hide = 0;

/** Says something in the one live region; it goes away after a while. */
export function say(text) {
  const live = $('live');
  live.textContent = text;
  live.classList.toggle('shown', text !== '');
  clearTimeout(hide);
  hide = setTimeout(() => live.classList.remove('shown'), 6_000);
}

function translate() {
  document.documentElement.lang = lang === 'zh' ? 'zh-CN' : 'en';
  for (const element of document.querySelectorAll('[data-t]')) element.textContent = t(element.dataset.t);
  $('lang-toggle').textContent = t('other');
  $('lang-toggle').lang = lang === 'zh' ? 'en' : 'zh-CN';
  document.title = t('shop');
}

/** Puts the words in place, now and whenever the language changes; `redraw` does the rest of the page. */
export function frame(redraw) {
  $('lang-toggle').addEventListener('click', () => {
    toggle();
    translate();
    redraw();
  });
  translate();
}

/** Counts down on a button that was pressed too often. It is pressed again by the person, not by us. */
async function slowDown(button, seconds) {
  say(t('slow', { n: seconds }));
  for (let left = seconds; left > 0; left -= 1) {
    button.textContent = t('slow', { n: left });
    await sleep(1000);
  }
}

/** What to say about an error that has no words of its own. */
function explain(error) {
  if (error.status === 0) return t('gone');
  const words = { ORDER_FAILED: 'orderFailed', IDEMPOTENCY_KEY_REUSED: 'keyReused', UNKNOWN_ORDER: 'unknownOrder' };
  if (error.code in words && has(words[error.code])) return t(words[error.code]);
  return error.status >= 500 ? t('again') : t('failed', { why: error.message });
}

/**
 * Runs what a button stands for, once at a time: the button is off and shows `busy` meanwhile. `idle()` gives its text
 * for afterwards. `handle(error)` may take an error by returning true.
 */
export async function press(button, busy, idle, work, handle = () => false) {
  if (button.disabled) return;
  button.disabled = true;
  const label = button.querySelector('span') ?? button;
  label.textContent = busy;
  try {
    await work((why) => say(t(why)));
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Later)) throw error;
    // The visit is over and others wait: so do we, on the waiting room's page.
    if (error.code === 'waiting-room') location.reload();
    else if (error.status === 429) await slowDown(label, Math.max(error.retryAfter, 1));
    else if (!handle(error)) say(explain(error));
  } finally {
    button.disabled = false;
    label.textContent = idle();
  }
}
