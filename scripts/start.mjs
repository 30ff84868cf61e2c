// Builds everything and serves the demo page.
//   node scripts/start.mjs [--port 8080]
// Works in a fresh clone: installs what is missing.
import { prepare, run, step } from './tools.mjs';

prepare();
// Imported only now: what they need may just have been installed.
const { build } = await import('./build.mjs');
await build();
const { buildDemo } = await import('./demo.mjs');
await buildDemo();
step('Server');
run('node', ['www/serve.mjs', ...process.argv.slice(2)]);
