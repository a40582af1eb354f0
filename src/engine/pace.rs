//! Pace of a run: waits between steps, never inside one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Maximum number of steps per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// Steps per second, at least 1.
    PerSecond(u32),
    /// Full speed: no wait between steps.
    #[default]
    Full,
}

impl Pace {
    /// Paces that the keys step through, slowest first.
    pub const ALL: [Pace; 6] = [
        Pace::PerSecond(1),
        Pace::PerSecond(2),
        Pace::PerSecond(4),
        Pace::PerSecond(8),
        Pace::PerSecond(16),
        Pace::Full,
    ];

    /// Returns the minimum time from the start of one step to the next.
    pub fn interval(self) -> Option<Duration> {
        match self {
            Pace::PerSecond(steps) => Some(Duration::from_secs(1) / steps.max(1)),
            Pace::Full => None,
        }
    }

    /// Returns the next faster pace of [`Pace::ALL`], if there is one.
    pub fn faster(self) -> Option<Pace> {
        Pace::ALL.into_iter().find(|other| other.order() > self.order())
    }

    /// Returns the next slower pace of [`Pace::ALL`], if there is one.
    pub fn slower(self) -> Option<Pace> {
        Pace::ALL.into_iter().rev().find(|other| other.order() < self.order())
    }

    fn order(self) -> u32 {
        match self {
            Pace::PerSecond(steps) => steps,
            Pace::Full => u32::MAX,
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Pace::PerSecond(1) => write!(f, "1 step/s"),
            Pace::PerSecond(steps) => write!(f, "{steps} steps/s"),
            Pace::Full => write!(f, "full speed"),
        }
    }
}

impl FromStr for Pace {
    type Err = String;

    /// Parses a whole number of steps per second from 1 to 1000, or `full`.
    fn from_str(text: &str) -> Result<Pace, String> {
        if text == "full" {
            return Ok(Pace::Full);
        }
        match text.parse() {
            Ok(steps @ 1..=1000) => Ok(Pace::PerSecond(steps)),
            _ => Err("give 1 to 1000 steps per second, or full".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_step_up_to_full_speed_and_down_to_one() {
        let mut up = vec![Pace::PerSecond(1)];
        while let Some(next) = up.last().and_then(|pace| pace.faster()) {
            up.push(next);
        }
        assert_eq!(up, Pace::ALL);
        let mut down = vec![Pace::Full];
        while let Some(next) = down.last().and_then(|pace| pace.slower()) {
            down.push(next);
        }
        down.reverse();
        assert_eq!(down, Pace::ALL);
        assert_eq!(
            (Pace::PerSecond(5).slower(), Pace::PerSecond(5).faster()),
            (Some(Pace::PerSecond(4)), Some(Pace::PerSecond(8)))
        );
        assert_eq!(Pace::PerSecond(100).faster(), Some(Pace::Full));
    }

    #[test]
    fn intervals_are_the_inverse_of_the_pace() {
        let millis: Vec<Option<u128>> =
            Pace::ALL.iter().map(|pace| pace.interval().map(|i| i.as_micros())).collect();
        assert_eq!(
            millis,
            [Some(1_000_000), Some(500_000), Some(250_000), Some(125_000), Some(62_500), None]
        );
        assert_eq!(
            Pace::PerSecond(0).interval(),
            Some(Duration::from_secs(1)),
            "no division by zero"
        );
    }

    #[test]
    fn text_is_parsed_or_rejected_with_the_range() {
        assert_eq!("full".parse(), Ok(Pace::Full));
        assert_eq!("4".parse(), Ok(Pace::PerSecond(4)));
        for bad in ["0", "-1", "1001", "2.5", "", "fast", "99999999999"] {
            assert!(bad.parse::<Pace>().unwrap_err().contains("1 to 1000"), "{bad}");
        }
        assert_eq!(
            [Pace::PerSecond(1), Pace::PerSecond(4), Pace::Full].map(|p| p.to_string()),
            ["1 step/s", "4 steps/s", "full speed"]
        );
    }
}
