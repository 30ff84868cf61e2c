// The package's worker, watched. Order matters.
import './memory-probe.js';
import '/pkg/worker.js';
