// Builds everything and serves the demo page.
//   node scripts/start.mjs [--port 8080]
// Works in a fresh clone: installs what is missing.
import { build } from './build.mjs';
import { buildPage, buildSample } from './demo.mjs';
import { installPackages, prepareRust, printDurations, run, step } from './tools.mjs';

installPackages();
prepareRust();
await build();
await Promise.all([buildPage(), buildSample()]);
printDurations();
step('Server');
run('node', ['www/serve.mjs', ...process.argv.slice(2)]);
