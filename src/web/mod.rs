//! wasm-bindgen bindings: conversions between JavaScript's values and this crate's, and nothing else.
//!
//! JavaScript verifies, schedules and copies; it writes payloads into, and reads decoded bytes out of, two arenas in this
//! memory, so no chunk is ever allocated or copied by the bindings. A page loads one of two modules: with the feature `gpu`
//! the crate builds to all of the other, and [`gpu`].

mod archive;
#[cfg(feature = "gpu")]
mod gpu;

use talc::wasm::{WasmDynamicTalc, new_wasm_dynamic_allocator};
use wasm_bindgen::prelude::*;

use crate::error::Error;

/// Much smaller than the standard library's.
#[global_allocator]
static ALLOCATOR: WasmDynamicTalc = new_wasm_dynamic_allocator();

#[cfg(debug_assertions)]
#[wasm_bindgen(start)]
fn start() {
    console_error_panic_hook::set_once();
}

/// A JavaScript `Error` with the stable `code` of [`Error::code`].
pub(crate) fn js_error(error: Error) -> JsValue {
    let js = js_sys::Error::new(&error.to_string());
    // Setting a property of a fresh, extensible object cannot fail.
    let _ = js_sys::Reflect::set(&js, &"code".into(), &error.code().into());
    js.into()
}
