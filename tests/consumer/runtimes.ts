// What a program that uses the adapters is told by their types, together with those of the runtimes.
import { type SessionOptions, createSession } from 'mcwc/onnxruntime';
import { type Enabled, enable } from 'mcwc/transformers';
import { env } from '@huggingface/transformers';
import * as ort from 'onnxruntime-web';

const options: SessionOptions = { model: 'model.onnx', aheadBytes: 0, onProgress: ({ loaded }) => loaded };
const session: ort.InferenceSession = await createSession(ort, 'model.mcwc', { ...options, executionProviders: ['wasm'] });
export const names: readonly string[] = session.inputNames;
// @ts-expect-error Not an option of the runtime.
await createSession(ort, 'model.mcwc', { executionProvider: 'wasm' });

const enabled: Enabled = enable(env, { 'Xenova/all-MiniLM-L6-v2': '/minilm.mcwc' }, { workers: 1 });
enabled.close();
