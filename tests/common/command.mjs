// The native programs that tests run: what `cargo build --bins --examples` makes, or where `npm test` has put that.
import { join } from 'node:path';
import { CARGO_TARGET } from '../../scripts/tools.mjs';

const PROGRAMS = process.env.MCWC_PROGRAMS ?? join(CARGO_TARGET, 'debug');
export const NATIVE = join(PROGRAMS, 'mcwc');
export const PERMUTE = join(PROGRAMS, 'examples/permute');
