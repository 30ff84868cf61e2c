// The adapters' types by themselves: they need no types of a runtime.
import { type Runtime, type SessionOptions, createSession } from 'mcwc/onnxruntime';
import { type Enabled, type Environment, enable } from 'mcwc/transformers';

declare const ort: Runtime;
declare const env: Environment;

const options: SessionOptions = { model: 'model.onnx', aheadBytes: 0, onProgress: ({ loaded }) => loaded };
export const session = createSession(ort, 'model.mcwc', options);
export const enabled: Enabled = enable(env, { 'Xenova/all-MiniLM-L6-v2': '/minilm.mcwc' }, { workers: 1 });
// @ts-expect-error A model needs a source.
enable(env, { 'Xenova/all-MiniLM-L6-v2': 1 });
