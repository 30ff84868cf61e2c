// Builds the page into target/search. The plugin makes the archive; serve.mjs adds the other two at /models/.
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';
import { mcwc } from '../../pkg/vite.js';

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  base: './',
  plugins: [mcwc()],
  build: { outDir: '../../target/search', emptyOutDir: true, target: 'es2023', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  worker: { format: 'es', plugins: () => [mcwc()] },
});
