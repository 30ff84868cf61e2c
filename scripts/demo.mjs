// The command, the sample archive and the demo page: what `npm start` serves and the page's tests open.
import { join } from 'node:path';
import { writeSample } from './sample.mjs';
import { finishSite } from './site.mjs';
import { CARGO_TARGET, ROOT, installPackages, start, timed, tool } from './tools.mjs';

const MODELS = join(ROOT, 'target/models');
/** The native command. */
const COMMAND = join(CARGO_TARGET, 'release/mcwc');

/** @param {Promise<void>} built the package, when it is */
export function buildDemo(built) {
  return Promise.all([built.then(buildPage), Promise.all([built, buildCommand()]).then(buildSample)]);
}

function buildCommand() {
  return timed('mcwc', () => start('cargo', ['build', '--release', '--no-default-features', '--features', 'cli']));
}

/** Needs the command and the package. */
export async function buildSample() {
  await installPackages();
  await timed('Sample archive', () => writeSample(MODELS, COMMAND));
}

/** Needs the package. */
export function buildPage() {
  const args = ['build', 'www', '--config', 'www/vite.config.js', '--logLevel', 'warn'];
  return timed('Page', async () => {
    await start('node', [await tool('vite/bin/vite.js'), ...args]);
    await finishSite();
  });
}
