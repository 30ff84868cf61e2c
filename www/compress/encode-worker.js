// A model -> its archive. In a worker of the page's own, as what the encoder says of thousands of tensors would hold the page up.
import { encode } from 'mcwc/encoder';
import { postTensors } from './tensors.js';

/** Stages are told of when they begin, what happens in them no more often than this. */
const PROGRESS_MS = 50;

onmessage = async ({ data: { files, options } }) => {
  try {
    const { archive, report } = await encode(files, { ...options, onProgress: progressPoster() });
    const { tensors, ...rest } = report;
    postTensors(tensors);
    postMessage({ result: { archive, report: rest } });
  } catch ({ message, code }) {
    postMessage({ error: { message, code } });
  }
};

function progressPoster() {
  let stage;
  let next = 0;
  return (progress) => {
    const now = performance.now();
    if (progress.stage === stage && now < next) return;
    stage = progress.stage;
    next = now + PROGRESS_MS;
    postMessage({ progress: [progress] });
  };
}
