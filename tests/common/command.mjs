// The native command that tests compare with: what `cargo build` makes.
import { join } from 'node:path';
import { CARGO_TARGET } from '../../scripts/tools.mjs';

export const NATIVE = join(CARGO_TARGET, 'debug/mcwc');
