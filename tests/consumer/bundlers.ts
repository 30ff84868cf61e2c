// A bundler's configuration, and a program whose models it compresses.
/// <reference types="mcwc/client" />
import { mcwc as esbuild } from 'mcwc/esbuild';
import { mcwc as rollup } from 'mcwc/rollup';
import { mcwc as vite, type PluginOptions } from 'mcwc/vite';
import { mcwc as webpack } from 'mcwc/webpack';
import plain from './model.onnx?mcwc';
import balanced from './model.onnx?mcwc&preset=balanced';
import exact from './model.onnx?mcwc&lossless';
import coarse from './model.onnx?bits=3&exclude=head&mcwc';

const options: PluginOptions = { preset: 'balanced', adaptive: true, calibrate: false, cacheFolder: '.cache/mcwc' };
export const plugins = [vite(options), rollup(options), webpack(options), esbuild()];
export const urls: string[] = [plain, balanced, exact, coarse];

// @ts-expect-error: statistics are one model's.
vite({ statistics: 'model.stats.safetensors' });
