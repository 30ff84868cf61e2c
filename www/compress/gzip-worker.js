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
  const writing = new WritableStream({
    write({ length }) {
      counts.written += length;
      if (counts.read < told + PROGRESS_BYTES) return;
      told = counts.read;
      postMessage({ progress: [counts.read, counts.written] });
    },
  });
  await blob.stream().pipeThrough(reading).pipeThrough(new CompressionStream('gzip')).pipeTo(writing);
}
