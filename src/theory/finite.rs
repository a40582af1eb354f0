//! JSON form of numbers that may be infinite, which JSON has no word for.
//!
//! An infinite number is written as the largest finite one, so that a reader sees a number. `null`,
//! as other programs and earlier versions write it, is read as infinity.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes a number; infinity becomes the largest finite one.
///
/// # Errors
/// Those of the serializer.
pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    bounded(*value).serialize(to)
}

/// Reads a number; `null` is infinity.
///
/// # Errors
/// If there is neither a number nor `null`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::INFINITY))
}

/// Returns the nearest finite number; NaN stays.
fn bounded(value: f64) -> f64 {
    if value.is_nan() { value } else { value.clamp(f64::MIN, f64::MAX) }
}

/// Serialization of lists of such numbers.
pub(crate) mod list {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a list; see [`super::serialize`].
    ///
    /// # Errors
    /// Those of the serializer.
    pub(crate) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|value| super::bounded(*value)))
    }

    /// Reads a list; see [`super::deserialize`].
    ///
    /// # Errors
    /// If there is anything but numbers and `null`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let values: Vec<Option<f64>> = Deserialize::deserialize(from)?;
        Ok(values.into_iter().map(|value| value.unwrap_or(f64::INFINITY)).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Figures {
        #[serde(with = "super")]
        one: f64,
        #[serde(with = "super::list")]
        many: Vec<f64>,
    }

    #[test]
    fn infinite_figures_are_written_as_numbers_and_null_is_read() {
        let figures = Figures { one: f64::INFINITY, many: vec![1.5, f64::NEG_INFINITY] };
        let text = serde_json::to_string(&figures).unwrap();
        assert!(!text.contains("null"), "{text}");
        let read: Figures = serde_json::from_str(&text).unwrap();
        assert_eq!(read, Figures { one: f64::MAX, many: vec![1.5, f64::MIN] });
        let old: Figures = serde_json::from_str("{\"one\":null,\"many\":[null,2]}").unwrap();
        assert_eq!(old, Figures { one: f64::INFINITY, many: vec![f64::INFINITY, 2.0] });
        assert!(serde_json::from_str::<Figures>("{\"one\":\"x\",\"many\":[]}").is_err());
    }
}
