// What `encode` takes and gives.

/** Bytes of a file; in Node also its path. */
export type EncoderData = Blob | ArrayBuffer | ArrayBufferView | string;

/**
 * A `File`, or bytes with a name, whose ending tells the format. A name with slashes is a path in a folder that is given as a
 * whole, as browsers name what is dropped. In Node also the path of a file or folder, which is read there by range.
 */
export type EncoderFile = string | (Blob & { readonly name: string }) | { readonly name: string; readonly data: Blob | ArrayBuffer | ArrayBufferView };

/** Of `bits`, `size`, `quality`, `preset`, `lossless` and `progressive` one may be given. */
export interface EncodeOptions {
  /** Bits for each weight of a matrix or convolution, at most. */
  bits?: number;
  /** Most bytes of the whole archive. */
  size?: number;
  /** Largest error: of the model's outputs with `statistics`, else of the weights; mean relative squared error. */
  quality?: number;
  /** A quality by name; `high` if nothing else is said. */
  preset?: 'near-lossless' | 'high' | 'balanced' | 'small';
  /** Keeps every byte. */
  lossless?: boolean;
  /** Lets the coding of exact floats, with `lossless` all of them, adapt: up to 2 % fewer bytes, up to seven times as long to decode. */
  adaptive?: boolean;
  /** Bits for each weight of passes, coarse to fine: the model can be used at the first while the rest still comes. */
  progressive?: readonly number[];
  /** What each weight matters for: files that `mcwc calibrate` made, one for each model. */
  statistics?: EncoderData | readonly EncoderData[];
  /** Makes a delta: only what differs from this archive, which decoding then needs too. */
  base?: EncoderData;
  /** The model that `base` was made of: with it only what changed is coded. */
  baseWeights?: EncoderFile | readonly EncoderFile[];
  /** Patterns of the names of tensors that are kept exact, such as `lm_head.*`. */
  exclude?: readonly string[];
  /** Accepts safetensors files with bytes between or after their tensors. */
  lenient?: boolean;
  /** `trellis` takes about 4 % fewer bits, `uniform` decodes about a fifth faster; `trellis` by default. */
  quantizer?: 'trellis' | 'uniform';
  /** Most lanes of a chunk, 16 by default: more decode faster on GPUs if the model is small, for a few more bytes. */
  lanes?: 16 | 64 | 256;
  /** `free`: hidden units, heads and channels may come back in another order; `original` by default. */
  unitOrder?: 'original' | 'free';
  /** Hears of each tensor and each percent of each stage. */
  onProgress?(progress: EncodeProgress): void;
  /** Ends the thread at once; the promise rejects with its reason. */
  signal?: AbortSignal;
  /** Where `encoder-worker.js` lies, if not beside this module. */
  workerUrl?: string | URL;
  /** Where `mcwc.wasm` lies, if not beside this module. */
  wasmUrl?: string | URL;
}

export interface EncodeProgress {
  /** What is being done, in a few words. A stage may come more than once. */
  stage: string;
  /** How much of the stage is done, from 0 to 1. */
  done: number;
  /** The name of the tensor that is worked on now; null where the stage goes by other things. */
  tensor: string | null;
}

/** What became of one tensor. */
export interface EncodedTensor {
  name: string;
  /** What it is, judged by its shape and type, such as `matrix` or `convolution`. */
  kind: string;
  shape: number[];
  /** Elements. */
  weights: number;
  originalBytes: number;
  codedBytes: number;
  /** Sum of squares of the weights; 0 if exact. */
  energy: number;
  /** Sum of squared errors; 0 if exact. */
  squaredError: number;
  /** Whether it is coded with loss. */
  lossy: boolean;
}

export interface EncodeReport {
  /** Of all files. */
  originalBytes: number;
  archiveBytes: number;
  /** What bytes outside of tensors take in the archive. */
  rawBytes: number;
  /** What the errors cost, in the units of `quality`, as far as the encoder can tell. */
  distortion: number;
  /** Whether decoding needs the base. */
  needsBase: boolean;
  /** Whether fewer bits than allowed make the weights near-lossless. */
  nearLossless: boolean;
  /** Whether statistics told what errors cost. */
  calibrated: boolean;
  /** What the statistics were measured on: `"samples"`, or `{ random: { secondDraw } }`; null without. */
  inputs: unknown;
  /** Whether the outputs err as much as they would uncalibrated, by random inputs. */
  errsAsUncalibrated: boolean;
  /** Bytes after which the first pass can be used, the second, and so on; but for the last. */
  passBytes: number[];
  /** What the user may want to know. */
  notes: string[];
  /** Tensors with frames of their own; one of each group of equal ones. */
  tensors: EncodedTensor[];
}

export interface EncodeResult {
  archive: Blob;
  report: EncodeReport;
}
