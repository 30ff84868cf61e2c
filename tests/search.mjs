// The page of semantic search, with MiniLM itself, in Chromium: all three variants load, agree, answer, and can be read by everybody.
//   npm run check:search     (after npm run build; fetches the model with pip if it is not in .cache)
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { serveSearch } from '../bench/search.mjs';
import { readOptions } from '../scripts/options.mjs';
import { prepareBrowser } from '../scripts/tools.mjs';
import { assertAccessible, assertStable, watch } from './common/page-checks.mjs';

const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, colorScheme: 'dark' };
/** Of 80 sentences, the ten best for each example: as many are to be those that float32 finds. */
const SHARED_MIN = 72;
/** The title promises it. */
const RATIO_MIN = 6;

readOptions(import.meta.filename);
const site = await serveSearch();
const browser = await chromium.launch({ executablePath: prepareBrowser(), args: ['--no-sandbox'] });
try {
  const page = await browser.newPage();
  // Three models embed a thousand sentences each.
  page.setDefaultTimeout(0);
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
  await watch(page);
  await page.goto(site.url);
  await assertAccessible(page);
  await page.waitForFunction(() => !document.body.textContent.includes('…') || document.getElementById('status').textContent.includes('wrong'));
  const facts = async (name) => page.locator(`[data-fact="${name}"]`).allTextContents();
  const [names, bytes, agreement] = [await page.locator('h2').allTextContents(), (await facts('bytes')).map(parseFloat), (await facts('agreement')).map(parseFloat)];
  console.log({ names, bytes, agreement, ready: await facts('ready') });
  assert.deepEqual(names, ['mcwc archive', 'int8', 'float32']);
  assert.ok(bytes[2] / bytes[0] >= RATIO_MIN && bytes[0] < bytes[1], `${bytes}`);
  assert.ok(Math.min(...agreement) >= SHARED_MIN, `${agreement}`);
  await page.fill('#query', 'a shark');
  await page.click('button[type="submit"]');
  await page.locator('article.ours li', { hasText: 'whale' }).first().waitFor();
  await assertAccessible(page);
  await assertStable(page);
  assert.deepEqual(complaints, []);

  const phone = await browser.newPage(PHONE);
  await phone.goto(site.url);
  await assertAccessible(phone);
} finally {
  await browser.close();
  await site.close();
}
