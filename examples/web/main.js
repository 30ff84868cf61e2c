// An archive, by address or picked by the visitor -> a table of its tensors.
import { open } from './node_modules/mcwc/pkg/index.js';

const FIRST = 4;
const [picker, status, rows] = ['input', 'output', 'tbody'].map((name) => document.querySelector(name));

picker.addEventListener('change', () => show(picker.files[0]));
show('model.mcwc');

async function show(source) {
  rows.replaceChildren();
  try {
    const archive = await open(source, {
      onProgress: ({ loaded, total }) => (status.textContent = `${loaded} of ${total ?? '?'} bytes`),
    });
    for (const { name } of archive.tensors) {
      const { dtype, shape, data } = await archive.tensor(name);
      // Types that JavaScript lacks, such as bf16, come as their bits.
      addRow(name, dtype, shape.join(' × '), data.subarray(0, FIRST).join(' '));
    }
    archive.close();
    status.textContent = `${archive.tensors.length} tensors, ${archive.bytes} bytes, backend ${archive.backend}`;
  } catch (error) {
    // Errors of mcwc have a code: 'io', 'checksum', 'incomplete', …
    status.textContent = `${error.message} (${error.code})`;
  }
}

function addRow(...cells) {
  rows.insertRow().append(...cells.map((text) => Object.assign(document.createElement('td'), { textContent: text })));
}
