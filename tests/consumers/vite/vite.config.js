import { readdirSync } from 'node:fs';
import { mcwc } from 'mcwc/vite';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [mcwc()],
  base: process.env.BASE || '/',
  server: { port: Number(process.env.PORT), strictPort: true, host: 'localhost' },
  build: { rollupOptions: { input: readdirSync('.').filter((name) => name.endsWith('.html')) } },
});
