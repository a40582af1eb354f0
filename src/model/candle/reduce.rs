//! Reductions of logits on the device.
//!
//! They copy a few numbers per node to the host, in place of the logits of the whole vocabulary.

use candle_core::{D, DType, Result, Tensor};

use crate::distribution::LogitSums;
use crate::model::Reductions;
use crate::tree::TokenId;

/// Reduces `logits`, (nodes, vocab): see [`crate::model::Decoder::reduced`].
///
/// # Errors
/// If the device fails.
pub fn reduce(
    logits: &Tensor,
    temperatures: &[f32],
    tokens: &[(usize, TokenId)],
) -> Result<Reductions> {
    let (nodes, vocab) = logits.dims2()?;
    let ids = Tensor::arange(0, vocab as u32, logits.device())?.reshape((1, vocab))?;
    let max = logits.max_keepdim(D::Minus1)?;
    // Ties go to the lowest id, whatever order the device's maximum uses.
    let best = logits
        .broadcast_eq(&max)?
        .where_cond(&ids.broadcast_as((nodes, vocab))?.contiguous()?, &beyond(logits)?)?;
    // Ids are below 2^24, so floats represent them exactly.
    let mut columns = vec![max.clone(), best.min_keepdim(D::Minus1)?.to_dtype(DType::F32)?];
    let below = logits.broadcast_sub(&max)?;
    for temperature in temperatures {
        let z = (&below * f64::from(1.0 / temperature))?;
        let e = z.exp()?;
        let ze = (&z * &e)?;
        columns.push(e.sum_keepdim(D::Minus1)?);
        columns.push(ze.sum_keepdim(D::Minus1)?);
        columns.push((&z * &ze)?.sum_keepdim(D::Minus1)?);
    }
    let rows: Vec<Vec<f32>> = Tensor::cat(&columns, 1)?.to_vec2()?;
    let at = |t: usize| {
        let of = |row: &Vec<f32>| {
            let [z, s1, s2] = [0, 1, 2].map(|i| f64::from(row[2 + 3 * t + i]));
            // With NaN logits no token is the best; the sums reveal it.
            LogitSums {
                max: row[0],
                best: (row[1] as TokenId).min(vocab as TokenId - 1),
                z,
                sums: [s1, s2],
            }
        };
        rows.iter().map(of).collect()
    };
    let nodes = (0..temperatures.len()).map(at).collect();
    Ok(Reductions { nodes, tokens: ranks(logits, &ids, tokens)? })
}

/// Logit and rank of each (node, token) pair.
fn ranks(logits: &Tensor, ids: &Tensor, tokens: &[(usize, TokenId)]) -> Result<Vec<(f32, usize)>> {
    if tokens.is_empty() {
        return Ok(Vec::new());
    }
    let (device, n) = (logits.device(), tokens.len());
    let nodes: Vec<u32> = tokens.iter().map(|&(node, _)| node as u32).collect();
    let tokens: Vec<u32> = tokens.iter().map(|&(_, token)| token).collect();
    let tokens = Tensor::from_vec(tokens, (n, 1), device)?;
    let rows = logits.index_select(&Tensor::from_vec(nodes, n, device)?, 0)?;
    let own = rows.gather(&tokens, 1)?;
    let count = |these: Tensor| these.to_dtype(DType::F32)?.sum_keepdim(D::Minus1);
    let above = count(rows.broadcast_gt(&own)?)?;
    let ties = count((rows.broadcast_eq(&own)? * ids.broadcast_lt(&tokens)?)?)?;
    let told: Vec<Vec<f32>> = Tensor::cat(&[own, (above + ties)?], 1)?.to_vec2()?;
    Ok(told.iter().map(|told| (told[0], told[1] as usize)).collect())
}

/// Returns an id above all tokens, in the shape of `logits`.
fn beyond(logits: &Tensor) -> Result<Tensor> {
    Tensor::full(u32::MAX, logits.shape(), logits.device())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;
    use crate::distribution::{Sampling, TokenDist};

    #[test]
    fn among_equal_logits_the_lower_id_comes_first() {
        let rows = [vec![1.0f32, 3.0, -2.0, 3.0, 1.0, 3.0, 0.5], vec![0.25; 7]];
        let logits = Tensor::from_vec(rows.concat(), (2, 7), &Device::Cpu).unwrap();
        let tokens: Vec<(usize, TokenId)> =
            (0..2).flat_map(|node| (0..7).map(move |token| (node, token))).collect();
        let reduced = reduce(&logits, &[1.0], &tokens).unwrap();
        for (&(node, token), got) in tokens.iter().zip(reduced.tokens) {
            let law = TokenDist::new(&rows[node], &Sampling::PLAIN).unwrap();
            assert_eq!(
                got,
                (rows[node][token as usize], law.rank(token)),
                "token {token} of {node}"
            );
            assert_eq!(reduced.nodes[0][node].best, law.best());
        }
    }

    #[test]
    fn non_finite_logits_give_non_finite_sums() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let logits =
                Tensor::from_vec(vec![0f32, bad, 1.0, 0.5, 2.0, 1.0], (2, 3), &Device::Cpu)
                    .unwrap();
            let reduced = reduce(&logits, &[1.0, 0.5], &[(0, 1), (1, 2)]).unwrap();
            let finite = |t: usize| [0, 1].map(|node: usize| reduced.nodes[t][node].is_finite());
            assert_eq!([finite(0), finite(1)], [[false, true]; 2], "{bad}");
        }
    }
}
