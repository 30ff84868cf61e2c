// The origin private file system as a shelf: mcwc/<cache>/<folder>/<file>.
//
// A writable stream's bytes appear all at once when it closes, in windows, workers and service workers alike; access handles, which
// only dedicated workers have, exclude other tabs and leave half a write behind after a crash.
import type { Shelf } from './shelf.js';

const ROOT = 'mcwc';
/** What is being removed, or a file in it, is being written, or there is another by now. */
const BUSY = ['NoModificationAllowedError', 'InvalidModificationError'];
/** Attempts to remove what is being written to, and the time between two. */
const REMOVALS = 100;
const REMOVAL_MS = 100;

export class OpfsShelf implements Shelf {
  readonly kind = 'opfs';

  private constructor(
    readonly name: string,
    private readonly directory: FileSystemDirectoryHandle,
  ) {}

  static async open(name: string): Promise<OpfsShelf> {
    const root = await rootOf(true);
    return new OpfsShelf(name, await root!.getDirectoryHandle(name, { create: true }));
  }

  static async names(): Promise<string[]> {
    return namesIn(await rootOf(false));
  }

  folders(): Promise<string[]> {
    return namesIn(this.directory);
  }

  async names(folder: string): Promise<string[]> {
    return namesIn(await found(this.directory.getDirectoryHandle(folder)));
  }

  async get(folder: string, name: string): Promise<Blob | undefined> {
    const directory = await found(this.directory.getDirectoryHandle(folder));
    const file = directory && (await found(directory.getFileHandle(name)));
    return file && found(file.getFile());
  }

  async put(folder: string, name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const directory = await this.directory.getDirectoryHandle(folder, { create: true });
    const file = await directory.getFileHandle(name, { create: true });
    const stream = await file.createWritable();
    try {
      await stream.write(bytes);
      await stream.close();
    } catch (error) {
      await stream.abort().catch(() => {});
      await this.remove(folder, name).catch(() => {});
      throw error;
    }
  }

  async remove(folder: string, name: string): Promise<void> {
    const directory = await found(this.directory.getDirectoryHandle(folder));
    if (directory) await removeFrom(directory, name);
  }

  removeFolder(folder: string): Promise<void> {
    return removeFrom(this.directory, folder);
  }
}

/** Waits for writes in progress. */
async function removeFrom(directory: FileSystemDirectoryHandle, name: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await found(directory.removeEntry(name, { recursive: true }));
      return;
    } catch (error) {
      if (!BUSY.includes((error as Error).name) || attempt === REMOVALS) throw error;
      await new Promise((resolve) => setTimeout(resolve, REMOVAL_MS));
    }
  }
}

async function rootOf(create: boolean): Promise<FileSystemDirectoryHandle | undefined> {
  const { storage } = globalThis.navigator ?? {};
  if (!storage?.getDirectory) throw new Error('there is no origin private file system');
  if (!globalThis.FileSystemFileHandle?.prototype.createWritable) throw new Error('its files cannot be written here');
  return found((await storage.getDirectory()).getDirectoryHandle(ROOT, { create }));
}

async function namesIn(directory: FileSystemDirectoryHandle | undefined): Promise<string[]> {
  const names: string[] = [];
  const list = async () => {
    if (directory) for await (const name of directory.keys()) names.push(name);
  };
  await found(list());
  return names;
}

/** Undefined for what does not exist. */
async function found<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if ((error as Error).name === 'NotFoundError') return undefined;
    throw error;
  }
}
