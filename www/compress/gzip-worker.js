// Blobs -> how many bytes gzip makes of them.

const PROGRESS_BYTES = 2 ** 21;

onmessage = async ({ data: { files } }) => {
  try {
    const counts = { read: 0, written: 0 };
    for (const blob of files) await count(blob, counts);
    postMessage({ result: counts.written });
  } catch (error) {
    postMessage({ error: { message: error.message } });
  }
};

async function count(blob, counts) {
  let told = counts.read;
  const reading = new TransformStream({
    transform(chunk, controller) {
      counts.read += chunk.length;
      controller.enqueue(chunk);
    },
  });
  for await (const chunk of blob.stream().pipeThrough(reading).pipeThrough(new CompressionStream('gzip'))) {
    counts.written += chunk.length;
    if (counts.read < told + PROGRESS_BYTES) continue;
    told = counts.read;
    postMessage({ progress: [counts.read, counts.written] });
  }
}
