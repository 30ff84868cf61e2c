// A TensorFlow.js model in an archive -> what `tf.loadGraphModel` and `tf.loadLayersModel` take in place of a URL.
import { type Archive, type ArchiveFile, type ArchiveSource, McwcError, type OpenOptions, open } from '../index.js';

export interface TfjsOptions extends OpenOptions {
  /** The model among the archive's files, if there are several: a `model.json`, or a `*-weights_manifest.json`. */
  file?: string;
  /** Whether a graph model gets its weights one by one, rather than all in one buffer. Default: true. */
  streamWeights?: boolean;
}

/** A weight as `model.json` describes it. */
export interface WeightSpec {
  name: string;
  shape: number[];
  dtype: 'float32' | 'int32' | 'bool' | 'string' | 'complex64';
  group?: 'model' | 'optimizer';
  quantization?: { dtype: 'uint8' | 'uint16' | 'float16'; scale?: number; min?: number };
}

/** Those of TensorFlow.js' artifacts that differ from what `model.json` says; all else in it comes along. */
export interface ModelArtifacts {
  modelTopology?: {};
  weightSpecs: WeightSpec[];
  weightData?: ArrayBuffer;
  getWeightStream?: () => ReadableStream<ArrayBuffer>;
}

/** An `IOHandler` that loads. */
export interface McwcHandler {
  load(): Promise<ModelArtifacts>;
}

interface ModelJson {
  modelTopology?: { node?: unknown };
  weightsManifest?: WeightGroup[];
}

interface WeightGroup {
  paths: string[];
  weights: WeightSpec[];
}

const ELEMENT_BYTES: Record<string, number | undefined> = { float32: 4, int32: 4, bool: 1, complex64: 8, uint8: 1, uint16: 2, float16: 2 };

/**
 * An `IOHandler` for a model in an archive. An archive that it opens itself, it closes when the weights are loaded; one that is
 * open already stays open.
 */
export function fromMcwc(source: Archive | ArchiveSource, { file, streamWeights = true, ...options }: TfjsOptions = {}): McwcHandler {
  return {
    async load() {
      const archive = isOpen(source) ? source : await open(source, options);
      const finish = () => isOpen(source) || archive.close();
      try {
        const { artifacts, weights } = await modelIn(archive, file);
        const isGraph = Array.isArray((artifacts.modelTopology as ModelJson['modelTopology'])?.node);
        if (isGraph && streamWeights) return { ...artifacts, getWeightStream: () => streamOf(weights, finish) };
        const { value: weightData } = await cut(weights, [weights.bytes]).next();
        finish();
        return { ...artifacts, weightData };
      } catch (error) {
        finish();
        throw error;
      }
    },
  };
}

/** What of TensorFlow.js makes tensors of weights. */
export interface WeightDecoder<Tensors> {
  io: { decodeWeights(data: ArrayBuffer, specs: WeightSpec[]): Tensors };
}

/** The weights of a model by name, for whoever builds it alone; `tf` is the TensorFlow.js that is to have them. */
export async function loadWeights<Tensors>(
  tf: WeightDecoder<Tensors>,
  source: Archive | ArchiveSource,
  options?: TfjsOptions,
): Promise<Tensors> {
  const { weightData, weightSpecs } = await fromMcwc(source, { ...options, streamWeights: false }).load();
  return tf.io.decodeWeights(weightData!, weightSpecs);
}

function isOpen(source: Archive | ArchiveSource): source is Archive {
  return typeof source === 'object' && 'gpuTensor' in source;
}

/** Weights that lie one after another in files. */
interface Weights {
  files: ArchiveFile[];
  /** Length in bytes. */
  bytes: number;
  /** Lengths of the weights in bytes, up to the first that only the weight itself tells. */
  lengths: number[];
}

async function modelIn(archive: Archive, wanted: string | undefined): Promise<{ artifacts: ModelArtifacts; weights: Weights }> {
  const name = wanted ?? onlyModel(archive);
  const json = (await archive.file(name).json()) as ModelJson | WeightGroup[];
  const { weightsManifest, ...model } = Array.isArray(json) ? { weightsManifest: json } : json;
  if (!weightsManifest) throw new McwcError('invalid', `${name} is no TensorFlow.js model: it has no weightsManifest`);
  const folder = name.slice(0, name.lastIndexOf('/') + 1);
  const files = weightsManifest.flatMap(({ paths }) => paths.map((path) => archive.file(folder + path.replace(/^\.\//, ''))));
  const weightSpecs = weightsManifest.flatMap(({ weights }) => weights);
  const lengths = weightSpecs.map(bytesOf);
  const unknown = lengths.indexOf(undefined);
  const known = (unknown < 0 ? lengths : lengths.slice(0, unknown)) as number[];
  const there = files.reduce((sum, { size }) => sum + size, 0);
  const described = known.reduce((sum, bytes) => sum + bytes, 0);
  if (described > there) {
    throw new McwcError('invalid', `${name} describes ${described} bytes of weights, its files have ${there}`);
  }
  const weights = { files, bytes: unknown < 0 ? described : there, lengths: known };
  return { artifacts: { ...model, weightSpecs }, weights };
}

function onlyModel({ files }: Archive): string {
  const names = files.map(({ name }) => name).filter((name) => name.endsWith('.json'));
  const models = names.length === 1 ? names : names.filter((name) => /(^|\/)model\.json$|weights_manifest\.json$/.test(name));
  if (models.length === 1) return models[0];
  const found = names.length > 0 ? `it has ${names.join(', ')}` : `it has no .json file, but ${files.map(({ name }) => name).join(', ')}`;
  throw new McwcError('argument', `which model of the archive is meant has to be said by \`file\`: ${found}`);
}

/** Undefined for strings, whose lengths are written before each. */
function bytesOf({ dtype, shape, quantization }: WeightSpec): number | undefined {
  const bytes = ELEMENT_BYTES[quantization?.dtype ?? dtype];
  return bytes && shape.reduce((product, length) => product * length, bytes);
}

/** Each weight is one buffer: of more than one, TensorFlow.js would copy all that it has whenever it gets another. */
function streamOf(weights: Weights, finish: () => void): ReadableStream<ArrayBuffer> {
  const parts = cut(weights, weights.lengths);
  let left = weights.bytes;
  return new ReadableStream(
    {
      // Whoever has all weights does not ask whether there are more.
      async pull(controller) {
        try {
          const { value } = left > 0 ? await parts.next() : {};
          if (value) controller.enqueue(value);
          left -= value?.byteLength ?? 0;
          if (left > 0) return;
          controller.close();
          finish();
        } catch (error) {
          finish();
          throw error;
        }
      },
      cancel: finish,
    },
    { highWaterMark: 0 },
  );
}

/** Buffers of these lengths, and what is left as it comes. */
async function* cut({ files }: Weights, lengths: number[]): AsyncGenerator<ArrayBuffer, undefined> {
  const chunks = chunksOf(files);
  let chunk = new Uint8Array();
  for (const length of lengths) {
    const whole = new Uint8Array(length);
    for (let filled = 0; filled < length; ) {
      if (chunk.length === 0) chunk = (await chunks.next()).value!;
      const part = chunk.subarray(0, length - filled);
      whole.set(part, filled);
      filled += part.length;
      chunk = chunk.subarray(part.length);
    }
    if (length > 0) yield whole.buffer;
  }
  if (chunk.length > 0) yield chunk.slice().buffer;
  for await (const { buffer, byteOffset, byteLength } of chunks) yield buffer.slice(byteOffset, byteOffset + byteLength);
}

async function* chunksOf(files: ArchiveFile[]): AsyncGenerator<Uint8Array<ArrayBuffer>, undefined> {
  for (const file of files) {
    for (let reader = file.stream().getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      yield value;
    }
  }
}
