// The browser's part of memory-runtime.mjs: a session of onnxruntime-web, made in one way or another.

export async function createAndRun({ build, provider, way, folder, feeds }) {
  const ort = await import(`/ort/${build}`);
  ort.env.wasm.numThreads = 1;
  const options = { executionProviders: [provider], logSeverityLevel: 3 };
  const started = performance.now();
  const session = await ways[way](ort, `/data/${folder}`, options);
  const milliseconds = performance.now() - started;
  const tensors = Object.entries(feeds).map(([name, { type, dims }]) => {
    const len = dims.reduce((product, size) => product * size);
    return [name, new ort.Tensor(type, type === 'int64' ? new BigInt64Array(len).fill(1n) : new Float32Array(len).fill(1), dims)];
  });
  const [{ data }] = Object.values(await session.run(Object.fromEntries(tensors)));
  return { milliseconds, output: Array.from(data.slice(0, 4)) };
}

const ways = {
  async bytes(ort, folder, options) {
    const { open } = await import('/pkg/index.js');
    const archive = await open(`${folder}/model.mcwc`, { backend: 'cpu' });
    const bytes = await archive.file('model.onnx').bytes();
    archive.close();
    return ort.InferenceSession.create(bytes, options);
  },
  async adapter(ort, folder, options) {
    const { createSession } = await import('/pkg/onnxruntime.js');
    return createSession(ort, `${folder}/model.mcwc`, options);
  },
  /** The original, whose weights the runtime fetches itself. */
  external(ort, folder, options) {
    const externalData = [{ path: 'model.onnx_data', data: `${folder}/model.onnx_data` }];
    return ort.InferenceSession.create(`${folder}/external.onnx`, { ...options, externalData });
  },
};
