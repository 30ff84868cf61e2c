import { createSession } from 'mcwc/onnxruntime';
import * as ort from 'onnxruntime-web/wasm';
import { show } from './show.js';

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: '/onnxruntime/ort-wasm-simd-threaded.wasm' };

show(async () => {
  const sessions = [await createSession(ort, '/recognizer.mcwc'), await ort.InferenceSession.create('/decoded.onnx')];
  const pixels = Float32Array.from({ length: 3 * 48 * 320 }, (_, index) => Math.sin(index / 7));
  const [ours, theirs] = await Promise.all(sessions.map((session) => session.run({ x: new ort.Tensor('float32', pixels, [1, 3, 48, 320]) })));
  const [a, b] = [ours, theirs].map((outputs) => Object.values(outputs)[0].data);
  return { outputs: a.length, equal: a.every((value, index) => value === b[index]) };
});
