//! Closed-form ceilings in accepted drafted tokens (bonus token excluded), natural logarithms.

/// Published bound (mu + mu2) ln(B) / mu^2, without its unknown constant.
///
/// E\[X\] <= (mu + mu2) ln(B) / mu^2 + O(1) (Pankratov & Alistarh, "Speculative Decoding
/// Speed-of-Light", EACL 2026, abstract; arXiv 2512.11718).
///
/// `mu` is the mean entropy in nats, `mu2` the mean of sum p ln^2 p in nats^2, `capacity` the
/// tokens of one verify pass. Returns `None` if mu is 0 (greedy), where the bound is infinite.
///
/// Counting the root among the B tokens moves the value by at most (mu + mu2) ln(2) / mu^2, a
/// constant within the O(1). docs/bounds.md writes ln(B), root included, and this program evaluates
/// its ceilings that way; `tests/data/theory-reference.json` is evaluated at the number of drafted
/// tokens, P.
pub fn published(mu: f64, mu2: f64, capacity: usize) -> Option<f64> {
    (mu > 0.0 && capacity >= 1).then(|| (mu + mu2) * (capacity as f64).ln() / (mu * mu))
}

/// Renewal bound ln(P)/mu + mu2/mu^2 (bounds.md, "The renewal form", t = ln P).
///
/// `drafted` is P = B - 1. Returns `None` if mu is 0 or nothing is drafted.
pub fn renewal(mu: f64, mu2: f64, drafted: usize) -> Option<f64> {
    (mu > 0.0 && drafted >= 1).then(|| (drafted as f64).ln() / mu + mu2 / (mu * mu))
}

/// Renewal bound at its best t (bounds.md, "The renewal form").
///
/// It is (ln(P mu) + 1)/mu + mu2/mu^2 - 1.
/// Returns `None` if P mu < 1 (t would be negative), mu is 0 or nothing is drafted.
pub fn renewal_tuned(mu: f64, mu2: f64, drafted: usize) -> Option<f64> {
    let p_mu = drafted as f64 * mu;
    (mu > 0.0 && drafted >= 1 && p_mu >= 1.0)
        .then(|| (p_mu.ln() + 1.0) / mu + mu2 / (mu * mu) - 1.0)
}
