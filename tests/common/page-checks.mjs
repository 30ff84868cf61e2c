// What has to hold for every page of www/, whatever it shows: text that can be read, controls that have names, headings in order,
// nothing wider than the screen, and nothing that moves by itself.
import assert from 'node:assert/strict';

/** WCAG 2.2, 1.4.3 at level AA; of large text the lower one is enough. */
const CONTRAST_MIN = 4.5;
const LARGE_CONTRAST_MIN = 3;
/** WCAG 2.2, 2.5.8. */
const TARGET_PX_MIN = 24;
/** Above this, Lighthouse no longer calls a cumulative layout shift good. */
const SHIFT_MAX = 0.1;
/** More than any page has controls. */
const TABS_MAX = 40;

const NAMED_ROLES = new Set([
  ...['button', 'checkbox', 'combobox', 'dialog', 'group', 'image', 'link', 'listbox', 'meter', 'ProgressIndicator', 'progressbar'],
  ...['radio', 'radiogroup', 'region', 'searchbox', 'slider', 'spinbutton', 'switch', 'tab', 'table', 'textbox'],
]);
/** Groups without a name are no landmarks and do no harm. */
const MAY_BE_NAMELESS = new Set(['group', 'region']);

/** Records layout shifts of `page` from its next navigation on. */
export function watch(page) {
  return page.addInitScript(() => {
    globalThis.shifts = [];
    const describe = ({ node, previousRect, currentRect }) => {
      return `${node?.nodeName} ${node?.id || node?.className || ''} ${previousRect.top} -> ${currentRect.top}`;
    };
    const observer = new PerformanceObserver((list) => {
      for (const { value, hadRecentInput, sources } of list.getEntries()) {
        if (!hadRecentInput) globalThis.shifts.push({ value, what: sources.map(describe) });
      }
    });
    observer.observe({ type: 'layout-shift', buffered: true });
  });
}

/** Of a page that is watched: the sum of what moved without having been asked to. */
export async function assertStable(page) {
  const shifts = await page.evaluate(() => globalThis.shifts);
  const sum = shifts.reduce((total, { value }) => total + value, 0);
  assert.ok(sum <= SHIFT_MAX, `the layout shifts by ${sum}: ${JSON.stringify(shifts)}`);
}

/** Moves the focus to an element by the keyboard. */
export async function tabTo(page, selector) {
  for (let presses = 0; presses < TABS_MAX; presses++) {
    await page.keyboard.press('Tab');
    if (await page.evaluate((target) => document.activeElement.matches(target), selector)) return;
  }
  assert.fail(`Tab never reached ${selector}`);
}

/** What can be seen now, in the colours and at the size that the page has now. */
export async function assertAccessible(page) {
  const view = await page.evaluateHandle(lookAtPage);
  const found = [await page.evaluate(contrastProblems, { view, CONTRAST_MIN, LARGE_CONTRAST_MIN }), await page.evaluate(layoutProblems, { view, TARGET_PX_MIN })];
  await view.dispose();
  assert.deepEqual([...found.flat(), ...(await nameless(page))], []);
}

/** By the browser's own accessibility tree. */
async function nameless(page) {
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send('Accessibility.getFullAXTree');
  await session.detach();
  return nodes
    .filter(({ ignored, role, name }) => !ignored && NAMED_ROLES.has(role?.value) && !MAY_BE_NAMELESS.has(role.value) && !name?.value)
    .map(({ role, nodeId }) => `a ${role.value} has no name (node ${nodeId})`);
}

/** Runs in the page, as what follows does: elements that are shown, and the words for one of them. */
function lookAtPage() {
  // Colours on their way are nobody's.
  document.getAnimations().forEach((animation) => animation.finish());
  const isShown = (element) => {
    const { width, height, bottom } = element.getBoundingClientRect();
    // Text for screen readers is clipped to a pixel; links that wait for focus lie above the page.
    return element.checkVisibility({ visibilityProperty: true }) && width > 1 && height > 1 && bottom + scrollY > 0;
  };
  const words = (element) => {
    const text = element.textContent.trim().replace(/\s+/g, ' ').slice(0, 40);
    return `<${element.localName}${element.id && ` id=${element.id}`}> ${JSON.stringify(text)}`;
  };
  return { shown: [...document.body.querySelectorAll('*')].filter(isShown), words };
}

function contrastProblems({ view: { shown, words }, CONTRAST_MIN, LARGE_CONTRAST_MIN }) {
  const context = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });

  /** Of any CSS colour: red, green, blue from 0 to 255, and alpha from 0 to 1. */
  function parseColor(color) {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
    return { rgb: [red, green, blue], alpha: alpha / 255 };
  }

  const over = (top, alpha, below) => top.map((value, index) => value * alpha + below[index] * (1 - alpha));
  const ancestors = (element) => (element ? [element, ...ancestors(element.parentElement)] : []);

  /** What an element's text stands on, as far as its ancestors tell; null where one has a picture. */
  function background(element) {
    const layers = [];
    for (const at of ancestors(element)) {
      const { backgroundImage, backgroundColor } = getComputedStyle(at);
      if (backgroundImage !== 'none') return null;
      layers.push(parseColor(backgroundColor));
      if (layers.at(-1).alpha === 1) break;
    }
    return layers.reduceRight((below, { rgb, alpha }) => over(rgb, alpha, below), parseColor('Canvas').rgb);
  }

  function luminance(rgb) {
    const linear = rgb.map((value) => value / 255).map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  }

  function check(element) {
    const { color, fontSize, fontWeight } = getComputedStyle(element);
    const below = background(element);
    if (!below) return [];
    const { rgb, alpha } = parseColor(color);
    const opacity = ancestors(element).reduce((product, at) => product * Number(getComputedStyle(at).opacity), alpha);
    const [dark, light] = [luminance(over(rgb, opacity, below)), luminance(below)].sort((a, b) => a - b);
    const ratio = (light + 0.05) / (dark + 0.05);
    const isLarge = parseFloat(fontSize) >= 24 || (parseFloat(fontSize) >= 18.66 && Number(fontWeight) >= 700);
    return ratio < (isLarge ? LARGE_CONTRAST_MIN : CONTRAST_MIN) ? [`${words(element)}: contrast ${ratio.toFixed(2)}`] : [];
  }

  const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  // WCAG asks nothing of what is disabled.
  const isDisabled = (element) => element.closest(':disabled') ?? element.closest('label')?.control?.disabled;
  return shown.filter((element) => hasText(element) && !isDisabled(element)).flatMap(check);
}

function layoutProblems({ view: { shown, words }, TARGET_PX_MIN }) {
  const problems = [];
  for (const element of shown.filter((each) => each.matches('button, select, input:not([type="checkbox"], [type="radio"]), summary'))) {
    const { width, height } = element.getBoundingClientRect();
    if (Math.min(width, height) < TARGET_PX_MIN) problems.push(`${words(element)}: only ${width} by ${height} pixels to hit`);
  }
  let level = 0;
  for (const heading of shown.filter((element) => element.matches('h1, h2, h3, h4'))) {
    const next = Number(heading.localName[1]);
    if (next > level + 1) problems.push(`${words(heading)}: a heading of level ${next} after one of level ${level}`);
    level = next;
  }
  const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
  for (const id of new Set(ids.filter((id, index) => ids.indexOf(id) !== index))) problems.push(`two elements have the id ${id}`);
  for (const image of document.querySelectorAll('img:not([alt])')) problems.push(`a picture has no alt: ${image.src}`);
  if (!document.documentElement.lang) problems.push('the page does not say its language');
  if (!document.title) problems.push('the page has no title');
  if (document.querySelectorAll('main').length !== 1) problems.push('the page has not one <main>');
  if (document.documentElement.scrollWidth > innerWidth) {
    problems.push(`the page is ${document.documentElement.scrollWidth} pixels wide on a screen of ${innerWidth}`);
  }
  return problems;
}
