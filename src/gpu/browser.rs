//! What wgpu leaves out in browsers: adopting a caller's `GPUDevice`.

use js_sys::{Array, Function, Object, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wgpu::webgpu::GpuDevice;

use super::device::{Device, Temporary};
use super::error::{gpu_error, js_error};
use super::navigator::{instance, navigator_gpu};
use crate::error::{Error, Result};

/// The bytes of buffers of a batch's tensors. In browsers they are the work of another process, which is not waited for.
#[derive(Debug)]
pub(super) struct Tensors(Device, Vec<u64>);

impl Tensors {
    pub fn new(device: &Device, bytes: Vec<u64>) -> Self {
        Tensors(device.clone(), bytes)
    }

    pub fn take(&mut self) -> Result<Vec<Temporary>> {
        Ok(self.1.drain(..).map(|bytes| self.0.tensor_buffer(bytes)).collect())
    }
}

impl Device {
    /// Works on a device that the page already uses, so that buffers can be shared with it.
    ///
    /// wgpu can only ask `navigator.gpu` for an adapter. For that one synchronous call the question is answered by a
    /// stand-in whose `requestDevice` gives the caller's device.
    ///
    /// # Errors
    /// `Argument` if it is not a `GPUDevice`, `Gpu` if the browser refuses.
    pub async fn adopt(device: JsValue) -> Result<Self> {
        let device = device.dyn_into::<GpuDevice>().map_err(|_| Error::argument("this is not a GPUDevice"))?;
        let instance = instance()?;
        let gpu = navigator_gpu()?;
        let answer =
            object(&[("configurable", JsValue::TRUE), ("value", promising(&stand_in(&device)?.into())?.into())])?;
        if !Reflect::define_property(gpu.unchecked_ref::<Object>(), &"requestAdapter".into(), &answer)
            .map_err(js_error)?
        {
            return Err(gpu_error("navigator.gpu is sealed, so no device can be adopted"));
        }
        let adapter = instance.request_adapter(&Default::default());
        Reflect::delete_property(gpu.unchecked_ref::<Object>(), &"requestAdapter".into()).map_err(js_error)?;
        Self::from_adapter(adapter.await.map_err(gpu_error)?).await
    }

    /// The browser's device.
    pub fn to_js(&self) -> JsValue {
        self.device.as_webgpu().into()
    }
}

/// Looks to wgpu like the adapter that `device` came from.
fn stand_in(device: &GpuDevice) -> Result<Object> {
    let empty = JsValue::from_str("");
    let no_info = object(&[
        ("vendor", empty.clone()),
        ("architecture", empty.clone()),
        ("device", empty.clone()),
        ("description", empty),
        ("isFallbackAdapter", JsValue::FALSE),
        ("subgroupMinSize", 4.into()),
        ("subgroupMaxSize", 128.into()),
    ])?;
    let info = Reflect::get(device, &"adapterInfo".into()).ok().filter(JsValue::is_object);
    object(&[
        ("features", device.features().into()),
        ("limits", device.limits().into()),
        ("info", info.unwrap_or(no_info.into())),
        ("requestDevice", promising(device)?.into()),
    ])
}

fn object(properties: &[(&str, JsValue)]) -> Result<Object> {
    let entries: Array = properties.iter().map(|(name, value)| Array::of2(&(*name).into(), value)).collect();
    Object::from_entries(&entries).map_err(js_error)
}

/// A function that promises `value`: `Promise.resolve` bound to it, which needs no closure.
fn promising(value: &JsValue) -> Result<Function> {
    let global = js_sys::global();
    let promise = Reflect::get(&global, &"Promise".into()).map_err(js_error)?;
    let resolve: Function = Reflect::get(&promise, &"resolve".into()).map_err(js_error)?.unchecked_into();
    Ok(resolve.bind1(&promise, value).unchecked_into())
}
