// A model and its archive -> the lines of code that load it, and those that make it on a command line.
import { isOnnx } from './files.js';

/**
 * @typedef {import('./files.js').Model} Model
 * @typedef {{title: string, lines: string}} Code
 */

const KINDS = [
  [/(^|\/)onnx\/[^/]*\.onnx$/, transformers],
  [/\.onnx$/i, onnxruntime],
  [/weights_manifest\.json$/, tensorflowWeights],
  [/(^|\/)model\.json$/, tensorflow],
  [/\.gguf$/i, wllama],
];

/**
 * @param {Model} model
 * @param {string} archive its name
 * @param {string | undefined} tensor the name of one that is in it
 * @returns {Promise<Code>}
 */
export async function loadingCode(model, archive, tensor) {
  const files = model.files.map((file) => ({ ...file, path: file.name.slice(file.name.indexOf('/') + 1) }));
  for (const [pattern, code] of KINDS) {
    const main = files.filter(({ path, name }) => pattern.test(path) || pattern.test(name));
    if (main.length > 0) return code(main, archive, model);
  }
  const read = tensor
    ? `const { data, shape, dtype } = await archive.tensor(${quoted(tensor)});`
    : `const bytes = await archive.file(${quoted(files[0].path)}).bytes();`;
  return { title: 'Load it', lines: `import { open } from 'mcwc';\n\nconst archive = await open(${quoted(archive)});\n${read}` };
}

/** @param {Model} model @param {string} args @param {string[]} statistics names of files @returns {Code} */
export function commandCode({ inputs, files }, args, statistics) {
  // The command calibrates by itself where it can.
  const calibrates = args !== '--lossless' && files.some(({ name }) => isOnnx(name));
  const calibration = statistics.length > 0 ? statistics.map((name) => `--calibration ${shellQuoted(name)}`) : calibrates ? ['--no-calibration'] : [];
  const command = ['npx mcwc encode', ...inputs.map(shellQuoted), args, ...calibration];
  return { title: 'The same on a command line', lines: command.join(' ') };
}

function onnxruntime(models, archive) {
  const options = models.length > 1 ? `, { model: ${quoted(models[0].path)} }` : '';
  return {
    title: 'Load it with onnxruntime-web',
    lines: `import * as ort from 'onnxruntime-web/wasm';
import { createSession } from 'mcwc/onnxruntime';

const session = await createSession(ort, ${quoted(archive)}${options});`,
  };
}

function transformers(_models, archive, { name }) {
  return {
    title: 'Load it with transformers.js',
    lines: `import { env, pipeline } from '@huggingface/transformers';
import { enable } from 'mcwc/transformers';

enable(env, { ${quoted(name)}: ${quoted(archive)} });
const model = await pipeline(task, ${quoted(name)});`,
  };
}

async function tensorflow([main], archive) {
  const load = (await isGraph(main)) ? 'loadGraphModel' : 'loadLayersModel';
  return {
    title: 'Load it with TensorFlow.js',
    lines: `import * as tf from '@tensorflow/tfjs';
import { fromMcwc } from 'mcwc/tfjs';

const model = await tf.${load}(fromMcwc(${quoted(archive)}));`,
  };
}

function tensorflowWeights(_models, archive) {
  return {
    title: 'Load it with TensorFlow.js or face-api',
    lines: `import * as tf from '@tensorflow/tfjs';
import { loadWeights } from 'mcwc/tfjs';

const weights = await loadWeights(tf, ${quoted(archive)});`,
  };
}

function wllama(parts, archive) {
  const blobs = parts.map(({ path }) => `await archive.file(${quoted(path)}).blob()`);
  return {
    title: 'Load it with wllama',
    lines: `import { open } from 'mcwc';

const archive = await open(${quoted(archive)});
await wllama.loadModel([${blobs.join(', ')}]);`,
  };
}

/** Only newer files say which of the two kinds of models they are; graphs have nodes. */
async function isGraph({ data }) {
  try {
    const { format, modelTopology } = JSON.parse(await data.text());
    return format ? format === 'graph-model' : 'node' in modelTopology;
  } catch {
    return true;
  }
}

function quoted(text) {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}

function shellQuoted(text) {
  const safe = text.startsWith('-') ? `./${text}` : text;
  return /^[\w./@%+=:,-]+$/.test(safe) ? safe : `'${safe.replaceAll("'", "'\\''")}'`;
}
