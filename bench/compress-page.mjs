// What the page that compresses models takes in Chromium: time, memory, and how long its main thread is busy at once; and whether its
// archives are the native command's.
//   node bench/compress-page.mjs [--quality high] MODEL…
// A model is a path, or the paths of its files with commas between. `--quality` is a preset, `lossless`, or `bits=4`.
// Expects the built pages in target/www (npm start). Prints a table.
// Exit status 1 if an archive is another than the command's, or if the main thread computes for more than 50 ms in one task.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { chromium } from 'playwright-core';
import { readOptions, text, wrongUsage } from '../scripts/options.mjs';
import { prepareBrowser } from '../scripts/tools.mjs';
import { serve } from '../www/serve.mjs';
import { buildCommand } from './artifacts.mjs';
import { renderers } from './resident.mjs';
import { markdownTable, reportTargets } from './table.mjs';

const TASK_MS_MAX = 50;
const TRACED = ['toplevel', 'devtools.timeline', '__metadata'];

const { quality: asked, operands: models } = readOptions(import.meta.filename, { quality: text('high') }, { operands: true });
if (models.length === 0) wrongUsage(import.meta.filename, 'Which models?');
const [quality, number] = asked.split('=');
const command = buildCommand();
const folder = mkdtempSync(join(tmpdir(), 'mcwc-compress-'));
const site = await serve();
const results = [];
try {
  for (const model of models) results.push(await measure(model.split(',')));
} finally {
  await site.close();
  rmSync(folder, { recursive: true });
}
const row = ({ name, figures, seconds, megabytes, taskMs, isEqual }) => {
  return [name, figures, seconds, megabytes.toFixed(0), taskMs.toFixed(0), isEqual ? 'yes' : 'NO'];
};
console.log(markdownTable(['model', 'bytes', 'encoded in', 'renderer, MB', 'longest task, ms', "the command's bytes"], results.map(row)));
const met = reportTargets([
  { name: "the command's bytes", value: `${results.filter(({ isEqual }) => isEqual).length} of ${results.length}`, met: results.every(({ isEqual }) => isEqual) },
  { name: `main thread, at most ${TASK_MS_MAX} ms a task`, value: `${Math.max(...results.map(({ taskMs }) => taskMs)).toFixed(0)} ms`, met: results.every(({ taskMs }) => taskMs <= TASK_MS_MAX) },
]);
process.exitCode = met ? 0 : 1;

async function measure(files) {
  const browser = await chromium.launch({ executablePath: prepareBrowser(), args: ['--no-sandbox'] });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(0);
    const trace = join(folder, 'trace.json');
    await browser.startTracing(page, { categories: TRACED, path: trace });
    await page.goto(`${site.url}compress.html`);
    await page.setInputFiles('#files', files);
    await page.check(`[name="quality"][value="${quality}"]`);
    if (number) await page.fill(`#${quality}`, number);
    await page.click('#run');
    await page.locator('#run', { hasText: 'Compress' }).waitFor();
    const peak = Math.max(...(await renderers(browser)).values());
    await browser.stopTracing();
    const status = await page.textContent('#status');
    if (!status.startsWith('Done')) throw new Error(`${files[0]}: ${await page.textContent('#alert')}`);
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('#download')]);
    const found = readFileSync(await download.path());
    return {
      name: await page.textContent('#chosen strong'),
      figures: /: (.*), verified/.exec(status)[1],
      seconds: /in (.*)/.exec(await page.textContent('#stage'))[1],
      megabytes: peak / 1e6,
      taskMs: longestTaskMs(JSON.parse(readFileSync(trace, 'utf8')).traceEvents),
      isEqual: found.equals(native(files, await page.textContent('.code:last-child code'))),
    };
  } finally {
    await browser.close();
  }
}

/**
 * Of the page's main thread, in time that it computes: what other processes take from it says nothing of the page. The browser has
 * pages of its own in other processes.
 */
function longestTaskMs(events) {
  const { pid } = events.find(({ args }) => args?.data?.requestMethod === 'GET' && args.data.url?.endsWith('/compress.html'));
  const { tid } = events.find((event) => event.pid === pid && event.name === 'thread_name' && event.args.name === 'CrRendererMain');
  const tasks = events.filter((event) => event.pid === pid && event.tid === tid && event.name.endsWith('RunTask') && event.tdur);
  return tasks.reduce((longest, { tdur }) => Math.max(longest, tdur / 1000), 0);
}

/** What the command makes of the same files, by the line that the page shows for it. */
function native(files, line) {
  const options = line.split(' ').filter((word, index, words) => word.startsWith('--') || words[index - 1]?.startsWith('--'));
  const output = join(folder, 'native.mcwc');
  const inputs = files.toSorted((a, b) => line.indexOf(basename(a)) - line.indexOf(basename(b)));
  const args = ['encode', ...inputs, ...options.filter((option) => option !== '--no-calibration'), '--force', '-o', output];
  execFileSync(command, args, { stdio: 'ignore' });
  return readFileSync(output);
}
