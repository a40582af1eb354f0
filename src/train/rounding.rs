//! Rounding of weights as in a head's file.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{D, DType, Tensor};

/// Returns the storage type of a tensor with that many columns.
pub fn kind(name: &str, cols: usize) -> GgmlDType {
    if name.ends_with("norm.weight") || !cols.is_multiple_of(32) {
        GgmlDType::F32
    } else {
        GgmlDType::Q4_1
    }
}

/// Returns a tensor's values as the file will store them.
///
/// # Errors
/// If it is not a tensor of floats.
pub fn round_for_file(name: &str, tensor: &Tensor) -> candle_core::Result<Tensor> {
    match kind(name, tensor.dim(D::Minus1)?) {
        GgmlDType::F32 => Ok(tensor.clone()),
        kind => QTensor::quantize(tensor, kind)?.dequantize(tensor.device()),
    }
}

/// Rounds as [`round_for_file`] does, on the tensor's device.
///
/// [`GgmlDType::Q4_1`] has 4 bits between the smallest and the largest number of each block of 32;
/// smallest number and step are kept in half precision.
///
/// # Errors
/// If it is not a tensor of floats.
pub fn round_on_device(name: &str, tensor: &Tensor) -> candle_core::Result<Tensor> {
    if kind(name, tensor.dim(D::Minus1)?) == GgmlDType::F32 {
        return Ok(tensor.clone());
    }
    let half = |x: &Tensor| x.to_dtype(DType::F16)?.to_dtype(DType::F32);
    let blocks = tensor.reshape(((), 32))?;
    let least = blocks.min_keepdim(1)?;
    let step = ((blocks.max_keepdim(1)? - &least)? / 15.0)?;
    // A constant block has step 0.
    let times = step.eq(0.0)?.where_cond(&step.zeros_like()?, &step.recip()?)?;
    let level =
        (blocks.broadcast_sub(&least)?.broadcast_mul(&times)? + 0.5)?.floor()?.clamp(0.0, 15.0)?;
    level.broadcast_mul(&half(&step)?)?.broadcast_add(&half(&least)?)?.reshape(tensor.shape())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_device_rounds_as_the_file_does() {
        let mut values: Vec<f32> = (0..8 * 64)
            .map(|i| ((i * i) as f32 * 0.37).sin() * if i < 256 { 0.04 } else { 3.0 })
            .collect();
        // A constant block, a block of zeros, and an outlier.
        values[64..96].fill(0.25);
        values[96..128].fill(0.0);
        values[130] = 40.0;
        let tensor = Tensor::from_vec(values, (8, 64), &Device::Cpu).unwrap();
        for name in ["output.weight", "output_norm.weight"] {
            let numbers = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (want, got) = (
                numbers(round_for_file(name, &tensor).unwrap()),
                numbers(round_on_device(name, &tensor).unwrap()),
            );
            assert_eq!(
                want.iter().zip(&got).filter(|(a, b)| (*a - *b).abs() > 1e-6 * a.abs()).count(),
                0,
                "{name}"
            );
        }
    }
}
