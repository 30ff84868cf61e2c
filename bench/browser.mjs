// A headless Chromium on a page without content, and a server for the files that it imports.
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { chromium } from 'playwright-core';
import { prepareBrowser } from '../scripts/tools.mjs';

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' };

/** @param {Record<string, string>} folders what is served: the first component of an address, and the folder behind it */
export async function openPage(folders, { args = [] } = {}) {
  const server = createServer((request, response) => answer(new URL(request.url, 'http://localhost').pathname, folders, response));
  await new Promise((resolve) => server.listen(0, 'localhost', resolve));
  const browser = await chromium.launch({ executablePath: prepareBrowser(), args: ['--no-sandbox', ...args] });
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  page.on('console', (message) => console.log(`page: ${message.text()}`));
  await page.goto(`http://localhost:${server.address().port}/`);
  const close = async () => {
    await browser.close();
    server.closeAllConnections();
    server.close();
  };
  return { browser, page, close };
}

function answer(path, folders, response) {
  if (path === '/') return response.writeHead(200, { 'content-type': TYPES['.html'] }).end('<!doctype html><link rel="icon" href="data:,">');
  const [, first, ...rest] = path.split('/');
  const file = folders[first] && join(folders[first], normalize(`/${rest.join('/')}`));
  const info = file && statSync(file, { throwIfNoEntry: false });
  if (!info?.isFile()) return response.writeHead(404).end();
  response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream', 'content-length': info.size });
  createReadStream(file).pipe(response);
}
