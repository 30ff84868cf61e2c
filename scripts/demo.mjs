// The sample archive and the demo page: what `npm start` serves and the page's tests open. Needs the built package.
import { join } from 'node:path';
import { writeSample } from './sample.mjs';
import { finishSite } from './site.mjs';
import { ROOT, installPackages, start, timed, tool } from './tools.mjs';

const MODELS = join(ROOT, 'target/models');

export async function buildSample() {
  await installPackages();
  await timed('Sample archive', () => writeSample(MODELS));
}

export function buildPage() {
  const args = ['build', 'www', '--config', 'www/vite.config.js', '--logLevel', 'warn'];
  return timed('Page', async () => {
    await start('node', [await tool('vite/bin/vite.js'), ...args]);
    await finishSite();
  });
}
