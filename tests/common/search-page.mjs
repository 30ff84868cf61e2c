// The page of semantic search in Chromium, whatever model it searches with.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { prepareBrowser } from '../../scripts/tools.mjs';
import { assertAccessible, assertStable, watch } from './page-checks.mjs';

const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, colorScheme: 'dark' };
/** Of each example the ten best. */
const COMPARED = 80;

/**
 * @param {string} url
 * @param {{ratioMin: number, sharedMin: number, query: string, found: string}} expected of the archive, how many times smaller than float32
 *   it is; of each variant, how many of the best sentences are float32's; a question, and what is in one of its answers
 */
export async function checkSearch(url, { ratioMin, sharedMin, query, found }) {
  const browser = await chromium.launch({ executablePath: prepareBrowser(), args: ['--no-sandbox'] });
  try {
    const page = await browser.newPage();
    // Three models embed a thousand sentences each.
    page.setDefaultTimeout(0);
    const complaints = [];
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    await watch(page);
    await page.goto(url);
    await assertAccessible(page);
    await page.waitForFunction(() => !document.body.textContent.includes('…') || !document.getElementById('alert').hidden);
    const facts = (name) => page.locator(`[data-fact="${name}"]`).allTextContents();
    const [names, ready] = [await page.locator('h2').allTextContents(), await facts('ready')];
    const [bytes, agreement] = [(await facts('bytes')).map(bytesOf), (await facts('agreement')).map(parseFloat)];
    assert.deepEqual(names, ['mcwc archive', 'int8', 'float32'], await page.textContent('#alert'));
    assert.ok(bytes[2] / bytes[0] >= ratioMin && bytes[0] < bytes[1], `${bytes}`);
    assert.equal(agreement[2], COMPARED);
    assert.ok(Math.min(...agreement) >= sharedMin, `${agreement}`);
    await page.fill('#query', query);
    await page.click('button[type="submit"]');
    await page.locator('article.ours li', { hasText: found }).first().waitFor();
    await assertAccessible(page);
    await assertStable(page);
    assert.deepEqual(complaints, []);

    const phone = await browser.newPage(PHONE);
    await phone.goto(url);
    await assertAccessible(phone);
    return { names, bytes, agreement, ready };
  } finally {
    await browser.close();
  }
}

function bytesOf(text) {
  return parseFloat(text) * (text.endsWith('MB') ? 1e6 : 1e3);
}
