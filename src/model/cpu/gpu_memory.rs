//! Memory retention on CUDA GPUs between passes.
#![allow(unsafe_code)]

use candle_core::Device;
use candle_core::cuda::cudarc::driver::{result, sys};

/// Makes the memory pool of `device` keep freed memory.
///
/// By default the pool returns all of it to the driver whenever the host waits for the device, at
/// least once a pass, and every later allocation has to map it again. Devices without a pool are
/// left unchanged.
pub fn keep(device: &Device) {
    let Device::Cuda(device) = device else { return };
    let mut most = u64::MAX;
    let device = device.cuda_stream().context().cu_device();
    // SAFETY: the driver returned `device`; the pool belongs to the device and is never destroyed;
    // the attribute's value is an unsigned 64-bit number, which is read before the call returns.
    unsafe {
        let _ = result::device::get_default_mem_pool(device).and_then(|pool| {
            let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, threshold, (&raw mut most).cast())
        });
    }
}
