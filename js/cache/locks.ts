// What tabs agree on. Where there are no locks, each goes its own way: bytes are only written twice.

/** Resolves with a function that gives the lock back. */
export function lock(name: string, { mode = 'exclusive', signal }: LockOptions = {}): Promise<() => void> {
  return hold(name, { mode, signal }) as Promise<() => void>;
}

/** The same at once; undefined if another has it. */
export function tryLock(name: string): Promise<(() => void) | undefined> {
  return hold(name, { ifAvailable: true });
}

function hold(name: string, options: LockOptions): Promise<(() => void) | undefined> {
  const { locks } = globalThis.navigator ?? {};
  if (!locks) return Promise.resolve(() => {});
  return new Promise((resolve, reject) => {
    const held = (granted: Lock | null) => {
      if (!granted) return resolve(undefined);
      return new Promise<void>((release) => resolve(release));
    };
    locks.request(`mcwc/${name}`, options, held).catch(reject);
  });
}
