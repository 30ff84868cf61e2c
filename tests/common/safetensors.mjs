// Tensors by name -> a safetensors file, and numbers to fill them with.

/** Normal numbers of some scale, the same ones on every run. */
export function noise(seed) {
  const random = gaussian(seed);
  return (length, scale) => Float32Array.from({ length }, () => random() * scale);
}

export function safetensors(tensors) {
  let end = 0;
  const entries = Object.entries(tensors).map(([name, [dtype, shape, data]]) => {
    const start = end;
    end += data.byteLength;
    return [name, { dtype, shape, data_offsets: [start, end] }];
  });
  let header = JSON.stringify(Object.fromEntries(entries));
  header = header.padEnd(Math.ceil(header.length / 8) * 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const data = Object.values(tensors).map(([, , { buffer, byteOffset, byteLength }]) => Buffer.from(buffer, byteOffset, byteLength));
  return Buffer.concat([length, Buffer.from(header), ...data]);
}

/** Normal numbers. */
function gaussian(seed) {
  const uniform = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return (seed + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
