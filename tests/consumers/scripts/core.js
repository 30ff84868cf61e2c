import { open } from 'mcwc';
import { fnv, show } from './show.js';

show(async () => {
  const archive = await open('/recognizer.mcwc', { backend: 'cpu' });
  const [tensor] = archive.tensors;
  const { data } = await archive.tensor(tensor.name);
  const files = {};
  for (const { name } of archive.files) files[name] = fnv(await archive.file(name).bytes());
  const { backendReason } = archive;
  archive.close();
  return { files, elements: data.length, backendReason };
});
