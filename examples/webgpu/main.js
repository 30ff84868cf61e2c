// An archive with a BERT -> how near sentences are to each other.
import { open } from './node_modules/mcwc/pkg/index.js';
import { tokenizer } from './tokenizer.js';
import { Transformer } from './transformer.js';

const [input, sentences, status, list] = ['input', 'textarea', 'output', 'ol'].map((name) => document.querySelector(name));

try {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error('There is no WebGPU here.');
  const device = await adapter.requestDevice();
  const archive = await open('model.mcwc', { backend: 'webgpu', device });
  const transformer = await Transformer.load(archive, device);
  const tokens = tokenizer(await archive.file('tokenizer.json').json());
  const { decodeMs, uploadedBytes } = archive.stats;
  archive.close();
  const compare = async () => {
    const embed = (text) => transformer.embed(tokens(text));
    const wanted = await embed(input.value);
    const rows = [];
    for (const text of sentences.value.split('\n').filter((text) => text.trim() !== '')) {
      rows.push({ text, nearness: (await embed(text)).reduce((sum, value, index) => sum + value * wanted[index], 0) });
    }
    rows.sort((a, b) => b.nearness - a.nearness);
    list.replaceChildren(...rows.map(({ text, nearness }) => Object.assign(document.createElement('li'), { textContent: `${nearness.toFixed(3)} ${text}` })));
  };
  for (const field of [input, sentences]) field.addEventListener('change', compare);
  await compare();
  status.textContent = `${uploadedBytes} bytes of weights were sent to the GPU, which decoded them in ${decodeMs.toFixed(0)} ms.`;
} catch (error) {
  status.textContent = `${error.message} (${error.code ?? error.name})`;
}
