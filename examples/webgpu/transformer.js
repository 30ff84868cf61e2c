// Weights in buffers of the GPU -> embeddings of sentences: a BERT, each operation a shader.
import { SHADERS } from './shaders.js';

const WORKGROUP_LEN = 64;

export class Transformer {
  #device;
  #config;
  /** Buffers, by the names of their tensors. */
  #weights;
  #pipelines;

  /** Of an archive with `model.safetensors` and `config.json`, opened with this device. */
  static async load(archive, device) {
    const config = await archive.file('config.json').json();
    const floats = archive.tensors.filter(({ dtype }) => /^b?f\d+$/.test(dtype)).map(({ name }) => name);
    const tensors = await archive.gpuTensors(floats, { dtype: 'f32' });
    return new Transformer(device, config, new Map(tensors.map(({ name, buffer }) => [name, buffer])));
  }

  constructor(device, config, weights) {
    this.#device = device;
    this.#config = config;
    this.#weights = weights;
    const module = device.createShaderModule({ code: SHADERS });
    const pipeline = (entryPoint) => device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint } });
    this.#pipelines = Object.fromEntries(['embed', 'linear', 'normalize', 'attend', 'pool'].map((name) => [name, pipeline(name)]));
  }

  /** The mean of the last layer's outputs, of length 1; `tokens`: numbers of the vocabulary. */
  async embed(tokens) {
    const { hidden_size: hidden, num_hidden_layers: layers, intermediate_size: inner } = this.#config;
    const run = new Run(this.#device, this.#pipelines, { ...this.#config, length: tokens.length });
    const weight = (name) => this.#weights.get(name);
    const linear = (x, name, inputs, outputs, gelu = 0) => {
      return run.make('linear', tokens.length * outputs, { inputs, outputs, gelu }, [x, weight(`${name}.weight`), weight(`${name}.bias`)]);
    };
    const normalize = (x, residual, name) => {
      return run.make('normalize', tokens.length * hidden, { inputs: hidden }, [x, weight(`${name}.weight`), weight(`${name}.bias`), residual], tokens.length);
    };
    const embeddings = ['word', 'position', 'token_type'].map((kind) => weight(`embeddings.${kind}_embeddings.weight`));
    const ids = run.buffer(Uint32Array.from(tokens));
    const sum = run.make('embed', tokens.length * hidden, { inputs: hidden }, [ids, ...embeddings]);
    let state = normalize(sum, run.zeros(tokens.length * hidden), 'embeddings.LayerNorm');
    for (let layer = 0; layer < layers; layer++) {
      const path = `encoder.layer.${layer}`;
      const parts = ['query', 'key', 'value'].map((part) => linear(state, `${path}.attention.self.${part}`, hidden, hidden));
      const attended = run.make('attend', tokens.length * hidden, { inputs: hidden }, parts);
      const mixed = linear(attended, `${path}.attention.output.dense`, hidden, hidden);
      state = normalize(mixed, state, `${path}.attention.output.LayerNorm`);
      const wide = linear(state, `${path}.intermediate.dense`, hidden, inner, 1);
      state = normalize(linear(wide, `${path}.output.dense`, inner, hidden), state, `${path}.output.LayerNorm`);
    }
    const mean = await run.read(run.make('pool', hidden, { inputs: hidden }, [state]), hidden);
    const length = Math.hypot(...mean);
    return mean.map((value) => value / length);
  }
}

/** Operations one after another, and the buffers between them. */
class Run {
  #device;
  #pipelines;
  #config;
  #encoder;
  #made = [];

  constructor(device, pipelines, config) {
    this.#device = device;
    this.#pipelines = pipelines;
    this.#config = config;
    this.#encoder = device.createCommandEncoder();
  }

  buffer(data, usage = GPUBufferUsage.STORAGE) {
    const buffer = this.#new(data.byteLength, usage | GPUBufferUsage.COPY_DST);
    this.#device.queue.writeBuffer(buffer, 0, data);
    return buffer;
  }

  zeros(len) {
    return this.#new(4 * len, GPUBufferUsage.STORAGE);
  }

  /** What an operation makes of its operands: that many floats, by one invocation each unless `invocations` says how many. */
  make(name, len, { inputs, outputs = 0, gelu = 0 }, operands, invocations = len) {
    const { length, num_attention_heads: heads, layer_norm_eps: epsilon = 1e-12 } = this.#config;
    const shape = new Uint32Array([length, inputs, outputs, heads, gelu, 0, 0, 0]);
    new Float32Array(shape.buffer)[5] = epsilon;
    const made = this.#new(4 * len, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC);
    const bound = [this.buffer(shape, GPUBufferUsage.UNIFORM), made, ...operands];
    const layout = this.#pipelines[name].getBindGroupLayout(0);
    const entries = bound.map((buffer, binding) => ({ binding, resource: { buffer } }));
    const pass = this.#encoder.beginComputePass();
    pass.setPipeline(this.#pipelines[name]);
    pass.setBindGroup(0, this.#device.createBindGroup({ layout, entries }));
    pass.dispatchWorkgroups(Math.ceil(invocations / WORKGROUP_LEN));
    pass.end();
    return made;
  }

  /** Runs everything, and reads that buffer. */
  async read(buffer, len) {
    const staging = this.#new(4 * len, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
    this.#encoder.copyBufferToBuffer(buffer, 0, staging, 0, 4 * len);
    this.#device.queue.submit([this.#encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const values = Array.from(new Float32Array(staging.getMappedRange()));
    for (const made of this.#made) made.destroy();
    return values;
  }

  #new(size, usage) {
    const buffer = this.#device.createBuffer({ size, usage });
    this.#made.push(buffer);
    return buffer;
  }
}
