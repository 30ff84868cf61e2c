// What tests of workers use in a page and in Node: the package, with all workers counted that it starts.

export async function start({ entry, base }) {
  const workers = [];
  const host = globalThis.Worker ? globalThis : process.getBuiltinModule('node:worker_threads');
  const { Worker: Original } = host;
  host.Worker = class extends Original {
    ended = false;

    constructor(...args) {
      super(...args);
      workers.push(this);
    }

    terminate() {
      this.ended = true;
      return super.terminate();
    }
  };
  const { open } = await import(entry);
  const bytes = async (path) => new Uint8Array(await (await fetch(`${base}/${path}`)).arrayBuffer());
  const archive = await bytes('large.mcwc');
  const restored = await bytes('large-restored/large.safetensors');
  const dataStart = 8 + Number(new DataView(restored.buffer).getBigUint64(0, true));
  return {
    workers,
    archive,
    open: (options, source = archive) => open(source, { backend: 'cpu', ...options }),
    outcome: (promise) => promise.then(() => 'decoded', ({ code, name }) => code ?? name),
    /** Whether a tensor is what the native command decodes. */
    isRight: async (opened, index) => {
      const { name, bytes } = opened.tensors[index];
      const { data } = await opened.tensor(name);
      const ours = new Uint8Array(data.buffer, 0, bytes);
      const theirs = restored.subarray(dataStart + index * bytes, dataStart + (index + 1) * bytes);
      return ours.every((byte, at) => byte === theirs[at]);
    },
    /** Resolves when no worker is left. */
    end: async () => {
      while (workers.some(({ ended }) => !ended)) await new Promise((resolve) => setTimeout(resolve, 20));
      host.Worker = Original;
    },
  };
}
