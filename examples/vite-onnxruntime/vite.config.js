import { defineConfig } from 'vite';

export default defineConfig({
  // Both find their wasm beside their scripts, where pre-bundling would not leave them.
  optimizeDeps: { exclude: ['mcwc', 'onnxruntime-web'] },
});
