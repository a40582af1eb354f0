//! Memory of a CUDA GPU between passes.
#![allow(unsafe_code)]

use candle_core::Device;
use candle_core::cuda::cudarc::driver::{result, sys};

/// Lets the pool that `device` takes its memory from keep what is freed. By itself it gives all of it back to the driver whenever the
/// host waits for the device, at least once a pass, and every later allocation has to map it anew. A device that has no such pool goes
/// on as it is.
pub fn keep(device: &Device) {
    let Device::Cuda(device) = device else { return };
    let mut most = u64::MAX;
    let device = device.cuda_stream().context().cu_device();
    // SAFETY: `device` is one that the driver gave; the pool it answers with is the device's own and is never destroyed; the value of
    // this attribute is an unsigned number of 64 bits, which is read before the call returns.
    unsafe {
        let _ = result::device::get_default_mem_pool(device).and_then(|pool| {
            let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, threshold, (&raw mut most).cast())
        });
    }
}
