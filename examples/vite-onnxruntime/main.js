// An archive of a network and its alphabet -> text read from a picture.
import { open } from 'mcwc';
import * as ort from 'onnxruntime-web/wasm';
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.wasm?url';

const [input, canvas, output] = ['input', 'canvas', 'output'].map((name) => document.querySelector(name));

ort.env.wasm.wasmPaths = { wasm };
ort.env.wasm.numThreads = 1;

const archive = await open('recognizer.mcwc');
const bytes = (name) => archive.file(name).bytes();
const session = await ort.InferenceSession.create(await bytes('ch_PP-OCRv4_rec_infer.onnx'));
const alphabet = new TextDecoder().decode(await bytes('ppocr_keys_v1.txt')).trimEnd().split('\n');
archive.close();
/** The blank between characters comes first, a space last. */
const classes = ['', ...alphabet, ' '];

input.addEventListener('input', read);
await read();

async function read() {
  const { data, width, height } = draw(input.value);
  const pixels = new ort.Tensor('float32', planes(data), [1, 3, height, width]);
  const { data: scores, dims } = Object.values(await session.run({ [session.inputNames[0]]: pixels }))[0];
  output.textContent = text(scores, dims[2]);
}

/** Dark text on white, 48 pixels high. */
function draw(text) {
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.fillStyle = 'white';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = 'black';
  context.font = '32px sans-serif';
  context.fillText(text, 12, 36);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/** RGBA -> planes of blue, green and red in −1…1, as the network was trained. */
function planes(rgba) {
  const len = rgba.length / 4;
  return Float32Array.from({ length: 3 * len }, (_, i) => rgba[(i % len) * 4 + 2 - Math.floor(i / len)] / 127.5 - 1);
}

/** The likeliest class of every column, repeats merged. */
function text(scores, classCount) {
  const columns = Array.from({ length: scores.length / classCount }, (_, column) => {
    const row = scores.subarray(column * classCount, (column + 1) * classCount);
    return row.indexOf(Math.max(...row));
  });
  const read = columns.filter((best, column) => best !== columns[column - 1]).map((best) => classes[best]);
  return read.join('').trim();
}
