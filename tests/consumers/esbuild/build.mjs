// Bundles the pages; `serve` as the first argument serves them too. The package's worker and wasm go beside the scripts.
import { cpSync, readdirSync } from 'node:fs';
import { context } from 'esbuild';
import { mcwc } from 'mcwc/esbuild';

const bundler = await context({
  entryPoints: readdirSync('scripts').filter((name) => name !== 'show.js').map((name) => `scripts/${name}`),
  outdir: 'dist',
  bundle: true,
  format: 'esm',
  splitting: true,
  plugins: [mcwc()],
});
await bundler.rebuild();
cpSync('public', 'dist', { recursive: true });
for (const name of ['worker.js', 'mcwc_bg.wasm']) cpSync(`node_modules/mcwc/pkg/${name}`, `dist/${name}`);
if (process.argv[2] === 'serve') await bundler.serve({ servedir: 'dist', host: 'localhost', port: Number(process.env.PORT) });
else await bundler.dispose();
