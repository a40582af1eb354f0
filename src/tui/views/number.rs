//! Number formats with fixed decimal places, so that columns stay aligned.

/// Formats tokens or nats with two decimals.
pub fn two(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { "-".to_owned() }
}

/// Formats a ceiling with two decimals, above 999 as `>999`. The closed forms diverge at low
/// entropy, where digits mean nothing.
pub fn ceiling(value: f64) -> String {
    if value > 999.0 { ">999".to_owned() } else { two(value) }
}

/// Formats a change with two decimals, and a sign unless it rounds to zero.
pub fn change(value: f64) -> String {
    match value {
        v if !v.is_finite() => "-".to_owned(),
        v if v.abs() < 0.005 => "0.00".to_owned(),
        v => format!("{v:+.2}"),
    }
}

/// Formats an optional value with two decimals, `None` as "-".
pub fn two_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), two)
}

/// Formats tokens per second with one decimal, `None` as "-".
pub fn speed(value: Option<f64>) -> String {
    // What rounds to zero has no sign.
    let plain = |v: f64| if v.abs() < 0.05 { 0.0 } else { v };
    value.filter(|v| v.is_finite()).map_or_else(|| "-".to_owned(), |v| format!("{:.1}", plain(v)))
}

/// Formats a probability in four cells. Only exact 0 and 1 are shown as such.
pub fn probability(p: f64) -> String {
    match p {
        p if !p.is_finite() => "   -".to_owned(),
        p if p <= 0.0 => "   0".to_owned(),
        p if p < 0.005 => "<.01".to_owned(),
        p if p >= 1.0 => "   1".to_owned(),
        p if p > 0.995 => ">.99".to_owned(),
        p => format!("{p:4.2}"),
    }
}

/// Formats a fraction as a whole percentage.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.0}%", share * 100.0) } else { "-".to_owned() }
}

/// Formats seconds as milliseconds with one decimal.
pub fn millis(seconds: f64) -> String {
    if seconds.is_finite() { format!("{:.1}", seconds * 1e3) } else { "-".to_owned() }
}

/// Formats a relative change as a signed percentage.
///
/// 0.03 is "+3%". Changes below 2% have one decimal.
pub fn percent_change(change: f64) -> String {
    match change * 100.0 {
        p if !p.is_finite() => "-".to_owned(),
        p if p.abs() < 0.05 => "0%".to_owned(),
        p if p.abs() < 1.95 => format!("{p:+.1}%"),
        p => format!("{p:+.0}%"),
    }
}

/// Formats a difference of fractions in signed percentage points, with one decimal below 9.95.
pub fn points(difference: f64) -> String {
    match difference * 100.0 {
        p if !p.is_finite() => "-".to_owned(),
        p if p.abs() < 0.05 => "0".to_owned(),
        p if p.abs() < 9.95 => format!("{p:+.1}"),
        p => format!("{p:+.0}"),
    }
}

/// Formats a number from 1 as an ordinal: 1st, 2nd, 3rd, 4th.
pub fn ordinal(n: usize) -> String {
    let ending = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_a_sign_and_ordinals_an_ending() {
        for (change, text) in [
            (0.03, "+3%"),
            (-0.123, "-12%"),
            (0.004, "+0.4%"),
            (0.0, "0%"),
            (1.33, "+133%"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(percent_change(change), text);
        }
        assert_eq!([points(-0.061), points(0.1234), points(0.0)], ["-6.1", "+12", "0"]);
        let ordinals = [1, 2, 3, 4, 11, 12, 13, 21, 101, 111].map(ordinal);
        assert_eq!(
            ordinals,
            ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "101st", "111th"]
        );
    }

    #[test]
    fn probabilities_take_four_cells_and_do_not_pretend() {
        for (p, text) in [
            (0.0, "   0"),
            (1.0, "   1"),
            (0.004, "<.01"),
            (0.996, ">.99"),
            (0.5, "0.50"),
            (f64::NAN, "   -"),
            (0.995, "0.99"),
        ] {
            assert_eq!(probability(p), text);
        }
        for i in 0..=10_000 {
            assert_eq!(probability(f64::from(i) / 10_000.0).len(), 4);
        }
    }
}
