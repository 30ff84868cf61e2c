// Builds the page. The plugin makes the archive, of the model in the folder SEARCH_MODEL; serve.mjs adds the other two at /models/.
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';
import { mcwc } from '../../pkg/vite.js';

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  base: './',
  plugins: [mcwc()],
  resolve: { alias: { 'searched-with': process.env.SEARCH_MODEL } },
  build: { emptyOutDir: true, reportCompressedSize: false, target: 'es2023', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  worker: { format: 'es', plugins: () => [mcwc()] },
});
