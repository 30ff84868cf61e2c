import { fnv, show } from './show.js';

show(async () => {
  const { serviceWorker } = navigator;
  await serviceWorker.register('/sw.js');
  if (!serviceWorker.controller) await new Promise((resolve) => (serviceWorker.oncontrollerchange = resolve));
  const response = await fetch('/models/ch_PP-OCRv4_rec_infer.onnx');
  return { status: response.status, file: fnv(new Uint8Array(await response.arrayBuffer())) };
});
