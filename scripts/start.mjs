// Builds everything and serves the demo page.
//   npm start -- [--port 8080]
// Works in a fresh clone: installs what is missing.
import { build } from './build.mjs';
import { buildPage, buildSample } from './demo.mjs';
import { serve } from '../www/serve.mjs';
import { PORT, readOptions } from './options.mjs';
import { installPackages, prepareRust, printDurations, step } from './tools.mjs';

const { port } = readOptions(import.meta.filename, { port: PORT });
installPackages();
prepareRust();
await build();
await Promise.all([buildPage(), buildSample()]);
printDurations();
step('Server');
const { url } = await serve({ port });
console.log(`mcwc demo: ${url}`);
