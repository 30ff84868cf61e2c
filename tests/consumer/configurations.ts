// The plugins are what the bundlers' own types ask for.
import type { Plugin as EsbuildPlugin } from 'esbuild';
import { mcwc as esbuild } from 'mcwc/esbuild';
import { mcwc as rollup } from 'mcwc/rollup';
import { mcwc as vite } from 'mcwc/vite';
import type { Plugin as RolldownPlugin } from 'rolldown';
import { defineConfig } from 'vite';

export default defineConfig({ plugins: [vite()] });
export const others: [RolldownPlugin, EsbuildPlugin] = [rollup(), esbuild()];
