//! Weight matrix on a device.

use std::borrow::Cow;

use candle_core::quantized::{QStorage, QTensor};
use candle_core::{DType, Device, Result, Tensor};

use crate::model::error::LoadError;
use crate::model::format::quant::TensorFormat;
use crate::model::format::weights::{Weights, ggml_type};

/// Number formats that a forward pass computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Weights as stored; products with quantized weights round inputs as candle does on the
    /// device.
    Stored,
    /// All weights converted to 32-bit floats, inputs not rounded; the reference for tests.
    F32,
}

/// Number of rows converted to floats at a time while loading.
const ROWS_AT_ONCE: usize = 4096;

/// Weight matrix, quantized as in its file or as floats.
#[derive(Debug)]
pub(super) enum Matrix {
    Quantized(QTensor),
    /// Floats of any type, (rows, columns).
    Plain(Tensor),
}

impl Matrix {
    /// Loads the matrix called `name`.
    ///
    /// Quantized formats are kept unless `precision` is [`Precision::F32`]. F16 and BF16 are kept
    /// on GPUs and become F32 on the CPU, which computes in nothing narrower.
    pub fn load(
        weights: &Weights,
        name: &str,
        device: &Device,
        precision: Precision,
    ) -> std::result::Result<Self, LoadError> {
        let Some(info) = weights.tensor(name).cloned() else {
            // This read fails with an error that names the file and the tensor.
            weights.read_rows(name, 0..1, &mut Vec::new())?;
            return Err(candle_core::Error::Msg(format!("no tensor {name}")).into());
        };
        let floats = match (info.kind, precision) {
            (TensorFormat::F16, Precision::Stored) if !device.is_cpu() => Some(DType::F16),
            (TensorFormat::BF16, Precision::Stored) if !device.is_cpu() => Some(DType::BF16),
            (TensorFormat::F32 | TensorFormat::F16 | TensorFormat::BF16, _)
            | (_, Precision::F32) => Some(DType::F32),
            _ => None,
        };
        if let Some(dtype) = floats {
            let parts = (0..info.rows).step_by(ROWS_AT_ONCE).map(|start| {
                let rows = start..info.rows.min(start + ROWS_AT_ONCE);
                let part = Tensor::from_vec(
                    weights.read_values(name, rows.clone())?,
                    (rows.len(), info.cols),
                    &Device::Cpu,
                )?;
                Ok(part.to_dtype(dtype)?.to_device(device)?)
            });
            return Ok(Matrix::Plain(Tensor::cat(
                &parts.collect::<std::result::Result<Vec<_>, LoadError>>()?,
                0,
            )?));
        }
        let mut bytes = Vec::new();
        weights.read_rows(name, 0..info.rows, &mut bytes)?;
        let storage = QStorage::from_data(Cow::Owned(bytes), device, ggml_type(info.kind))?;
        Ok(Matrix::Quantized(QTensor::new(storage, (info.rows, info.cols))?))
    }

    /// Multiplies the rows of `xs` (n, columns) with the matrix; returns F32, (n, rows).
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        match self {
            Matrix::Quantized(weights) => xs.apply_op1_no_bwd(weights),
            Matrix::Plain(weights) => {
                xs.to_dtype(weights.dtype())?.matmul(&weights.t()?)?.to_dtype(DType::F32)
            }
        }
    }

    /// Looks up the rows `ids`, in F32: (ids, columns).
    pub fn lookup_rows(&self, ids: &Tensor) -> Result<Tensor> {
        match self {
            Matrix::Quantized(weights) => weights.embedding(ids)?.to_dtype(DType::F32),
            Matrix::Plain(weights) => weights.index_select(ids, 0)?.to_dtype(DType::F32),
        }
    }

    /// Loads the norm called `name` as a vector of F32.
    pub fn load_norm(
        weights: &Weights,
        name: &str,
        device: &Device,
    ) -> std::result::Result<Tensor, LoadError> {
        let values = weights.read_vector(name)?;
        let len = values.len();
        Ok(Tensor::from_vec(values, len, device)?)
    }
}
