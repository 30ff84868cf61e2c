// Builds the pages into target/www. The models are not bundled: serve.mjs adds target/models at /models/.
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const PAGES = ['index.html', 'compress.html', 'document.html'];

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  base: './',
  build: {
    outDir: '../target/www',
    emptyOutDir: true,
    target: 'es2023',
    // The Content-Security-Policy allows neither inline scripts nor data: fetches.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: PAGES.map((page) => fileURLToPath(new URL(page, import.meta.url))) },
  },
  worker: { format: 'es' },
});
