// Types of imports that `mcwc/vite`, `mcwc/webpack` and their like compress. TypeScript knows such an import by its beginning or its
// end: with other options than these, `mcwc` comes last, as in `./model.onnx?bits=3&exclude=head&mcwc`.

declare module '*?mcwc' {
  /** The address of the archive, for `open`. */
  const url: string;
  export default url;
}

declare module '*&mcwc' {
  /** The address of the archive, for `open`. */
  const url: string;
  export default url;
}

declare module '*?mcwc&preset=near-lossless' {
  /** The address of the archive, for `open`. */
  const url: string;
  export default url;
}

declare module '*?mcwc&preset=high' {
  /** The address of the archive, for `open`. */
  const url: string;
  export default url;
}

declare module '*?mcwc&preset=balanced' {
  /** The address of the archive, for `open`. */
  const url: string;
  export default url;
}

declare module '*?mcwc&preset=small' {
  /** The address of the archive, for `open`. */
  const url: string;
  export default url;
}

declare module '*?mcwc&lossless' {
  /** The address of the archive, for `open`. */
  const url: string;
  export default url;
}
