import { readdirSync } from 'node:fs';
import { defineConfig } from 'vite';

export default defineConfig({
  base: process.env.BASE || '/',
  server: { port: Number(process.env.PORT), strictPort: true, host: 'localhost' },
  build: { rollupOptions: { input: readdirSync('.').filter((name) => name.endsWith('.html')) } },
});
