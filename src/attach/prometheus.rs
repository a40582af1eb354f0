//! Prometheus' text format, as far as counters and gauges need it, bounded.
//!
//! The registry has no maintained parser with bounds: `prometheus-parse` reads all of a body into
//! maps. Lines that can't be read are skipped, as Prometheus' own clients may write comments and
//! extensions that are not known here.

/// Samples that are kept at most.
const MOST_SAMPLES: usize = 20_000;
/// Labels of a sample that are kept at most.
const MOST_LABELS: usize = 32;

/// One sample of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Labels in their order.
    pub labels: Vec<(String, String)>,
    /// Value; may be infinite or no number.
    pub value: f64,
}

impl Sample {
    /// Value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// Samples of one reading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Reads all samples whose name begins with one of `prefixes`.
    pub fn parse(text: &str, prefixes: &[&str]) -> Samples {
        let wanted = |line: &&str| prefixes.iter().any(|prefix| line.starts_with(prefix));
        Samples(
            text.lines()
                .map(str::trim_start)
                .filter(wanted)
                .filter_map(sample)
                .take(MOST_SAMPLES)
                .collect(),
        )
    }

    /// Returns whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Samples of a name, over all label sets.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }

    /// Returns the sum of a metric over all label sets.
    ///
    /// Counters are also found with the suffix `_total`. Values that are not numbers are left out.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let total = format!("{name}_total");
        let sum = |name: &str| {
            self.all(name)
                .map(|sample| sample.value)
                .filter(|value| value.is_finite())
                .fold(None, |sum: Option<f64>, value| Some(sum.unwrap_or(0.0) + value))
        };
        sum(&total).or_else(|| sum(name))
    }

    /// Mean over all label sets; for gauges.
    pub fn mean(&self, name: &str) -> Option<f64> {
        let count = self.all(name).filter(|sample| sample.value.is_finite()).count();
        Some(self.sum(name)? / count.max(1) as f64)
    }

    /// Sums by a label that numbers positions from 0; missing positions are 0. Positions above
    /// 4,095 are dropped.
    pub fn by_position(&self, name: &str, label: &str) -> Vec<f64> {
        let total = format!("{name}_total");
        let mut sums = Vec::new();
        for sample in self.0.iter().filter(|sample| sample.name == total || sample.name == name) {
            let position = sample
                .label(label)
                .and_then(|position| position.parse::<usize>().ok())
                .filter(|p| *p < 4096);
            if let Some(position) = position.filter(|_| sample.value.is_finite()) {
                if sums.len() <= position {
                    sums.resize(position + 1, 0.0);
                }
                sums[position] += sample.value;
            }
        }
        sums
    }

    /// First value of a label over all samples of a name.
    pub fn label<'a>(&'a self, name: &'a str, label: &str) -> Option<&'a str> {
        self.all(name).find_map(|sample| sample.label(label))
    }
}

/// Reads `name{label="value",...} value [timestamp]`.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, value) = rest.split_once('=')?;
            let (value, after) = quoted(value.trim_start())?;
            if labels.len() < MOST_LABELS {
                labels.push((label.trim().to_owned(), value));
            }
            rest = after;
        }
    }
    let value = rest.split_whitespace().next()?;
    let value = match value {
        "+Inf" | "Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().ok()?,
    };
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Parses a quoted label value with its escapes.
///
/// Returns the rest of the line, too.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match (escaped, c) {
            (true, 'n') => value.push('\n'),
            (true, c) => value.push(c),
            (false, '"') => return Some((value, &text[at + 1..])),
            (false, '\\') => {}
            (false, c) => value.push(c),
        }
        escaped = !escaped && c == '\\';
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn samples_of_every_form_are_read() {
        let text = "# HELP x_total words\n# TYPE x_total counter\nx_total{a=\"1\",b=\"q\\\"\\\\\\n\"} 2 1700000000\nx_total{a=\"2\"} 1.5e3\n\
                    x_created 7\n  y 3\ny{} NaN\nz{a=\"}\"} +Inf\nbroken{a=1} 2\nx_total{a=\"3\" 4\nother 9\n";
        let samples = Samples::parse(text, &["x", "y", "z", "broken"]);
        assert_eq!(samples.sum("x"), Some(1502.0));
        assert_eq!((samples.sum("y"), samples.mean("y")), (Some(3.0), Some(3.0)));
        assert_eq!(
            (samples.sum("z"), samples.sum("other"), samples.sum("broken")),
            (None, None, None)
        );
        assert_eq!(samples.label("x_total", "b"), Some("q\"\\\n"));
        assert_eq!(samples.label("z", "a"), Some("}"));
    }

    #[test]
    fn positions_are_summed_over_other_labels() {
        let text = "n_total{position=\"0\",engine=\"0\"} 5\nn_total{position=\"0\",engine=\"1\"} 4\nn_total{position=\"2\"} 1\n\
                    n_total{position=\"99999999999\"} 1\nn_total{position=\"-1\"} 1\n";
        assert_eq!(Samples::parse(text, &["n"]).by_position("n", "position"), [9.0, 0.0, 1.0]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}", labels in "[a-z=\",\\\\{}é]{0,30}") {
            let _ = Samples::parse(&text, &[""]);
            let _ = Samples::parse(&format!("x{{{labels}}} 1"), &["x"]).by_position("x", "a");
        }
    }
}
