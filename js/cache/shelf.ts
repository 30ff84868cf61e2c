// Named bytes in folders that outlive the page.

/** A named cache. What is put is there as a whole or, after a crash, empty or not at all. */
export interface Shelf {
  readonly kind: 'opfs' | 'cache-api';
  readonly name: string;
  folders(): Promise<string[]>;
  /** Of what lies in a folder; empty if there is no such folder. */
  names(folder: string): Promise<string[]>;
  /** Undefined if it is not there. */
  get(folder: string, name: string): Promise<Blob | undefined>;
  put(folder: string, name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Removes what may not be there. */
  remove(folder: string, name: string): Promise<void>;
  removeFolder(folder: string): Promise<void>;
}
