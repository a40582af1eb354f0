//! Figures of the last probe of a server, kept for later runs that only watch it.
//!
//! One small JSON file per address in the cache folder. It holds figures, the names of engine,
//! model, version and method, and a hash of the address: no prompt, no text and no key. A file that
//! is damaged, or of a server that changed since, is reported in one line and not used.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::estimate::Estimates;
use super::{Address, Identity, ServerKind};
use crate::cache_file::{replace, seconds_since_1970 as now};
use crate::hex::hex;
use crate::sanitize::sanitize_name;
use crate::theory::intervals::Estimate;

/// Version of the file's format.
const FORMAT: u32 = 1;
/// Bytes of a file that are read.
const MOST_BYTES: u64 = 1 << 16;
/// Seconds by which a file's time may lie ahead: clocks are set back.
const MOST_AHEAD: u64 = 24 * 3600;

/// Server settings on which the figures of a probe depend; `None` where not reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ServerSettings {
    engine: String,
    version: Option<String>,
    model: Option<String>,
    method: Option<String>,
    budget: Option<usize>,
}

/// Figures of a probe that was made in an earlier run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EarlierProbe {
    /// End of the probe, in seconds since 1970.
    pub ended: u64,
    /// Tokens that it let the server write.
    pub tokens: u64,
    /// Texts that it had written.
    pub texts: usize,
    /// Temperature of its texts.
    pub temperature: f64,
    /// Top-p of its texts.
    pub top_p: f64,
    /// B that the ceilings are for, root included.
    pub budget: Option<usize>,
    /// Estimates for these texts. A file holds those of mu, mu2 and the ceilings.
    #[serde(flatten)]
    pub estimates: Estimates,
}

/// Content of a file.
#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    /// Hash of the address, so that a renamed file is not taken for another server's.
    address: String,
    server: ServerSettings,
    probe: EarlierProbe,
}

/// Outcome of the search for an earlier probe.
#[derive(Clone, Debug, PartialEq)]
pub enum Earlier {
    /// No probe of this address was kept.
    None,
    /// Last probe of the same server, with the same settings.
    Found(Box<EarlierProbe>),
    /// Reason, in one line, why a kept probe does not apply.
    Stale(String),
}

impl EarlierProbe {
    /// End of the probe in local time, to the minute.
    pub fn local_date(&self) -> String {
        let ended = self.timestamp().to_zoned(jiff::tz::TimeZone::system());
        ended.strftime("%Y-%m-%d %H:%M").to_string()
    }

    /// End of the probe in UTC, as in RFC 3339.
    pub fn utc_date(&self) -> String {
        self.timestamp().to_string()
    }

    fn timestamp(&self) -> jiff::Timestamp {
        i64::try_from(self.ended)
            .ok()
            .and_then(|ended| jiff::Timestamp::from_second(ended).ok())
            .unwrap_or_default()
    }

    fn is_plausible(&self) -> bool {
        let sound = |e: Estimate| {
            e.value.is_finite()
                && e.value >= 0.0
                && e.interval.is_none_or(|i| i.low <= e.value && e.value <= i.high)
        };
        self.estimates.mu.is_some()
            && self.estimates.of_distributions().into_iter().flatten().all(sound)
            && self.temperature > 0.0
            && self.temperature.is_finite()
            && (0.0..=1.0).contains(&self.top_p)
            && self.budget.is_none_or(|budget| budget >= 1)
            && self.ended <= now() + MOST_AHEAD
    }
}

impl ServerSettings {
    fn of(engine: ServerKind, identity: &Identity, budget: Option<usize>) -> ServerSettings {
        ServerSettings {
            engine: engine.name().to_owned(),
            version: identity.version.clone(),
            model: identity.model.clone(),
            method: identity.method.clone(),
            budget,
        }
    }

    /// First setting that differs: its name, then, and now. One that only one side knows doesn't.
    fn difference(&self, now: &ServerSettings) -> Option<(&'static str, String, String)> {
        let text = |a: &Option<String>, b: &Option<String>| Some((a.clone()?, b.clone()?));
        let number = |a: Option<usize>, b: Option<usize>| Some((a?.to_string(), b?.to_string()));
        [
            ("engine", Some((self.engine.clone(), now.engine.clone()))),
            ("model", text(&self.model, &now.model)),
            ("version", text(&self.version, &now.version)),
            ("speculation", text(&self.method, &now.method)),
            ("B", number(self.budget, now.budget)),
        ]
        .into_iter()
        .find_map(|(name, both)| both.filter(|(a, b)| a != b).map(|(a, b)| (name, a, b)))
    }
}

fn hash(address: &Address) -> String {
    hex(&Sha256::digest(address.as_str())[..16])
}

/// Path of the file for the server at `address`.
pub(crate) fn file(cache: &Path, address: &Address) -> PathBuf {
    cache.join("probes").join(format!("{}.json", hash(address)))
}

/// Reads the last probe of the server at `address` from the cache folder.
pub fn read(cache: &Path, address: &Address, engine: ServerKind, identity: &Identity) -> Earlier {
    let stale =
        |why: String| Earlier::Stale(format!("the last probe of this address is not shown: {why}"));
    let Ok(open) = std::fs::File::open(file(cache, address)) else { return Earlier::None };
    let mut bytes = Vec::new();
    let kept: Option<Kept> = open
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .ok()
        .filter(|read| *read as u64 <= MOST_BYTES)
        .and_then(|_| serde_json::from_slice(&bytes).ok());
    match kept {
        Some(kept) if kept.format != FORMAT => {
            stale("another version of this program kept it".to_owned())
        }
        Some(kept) if kept.address == hash(address) && kept.probe.is_plausible() => {
            let now = ServerSettings::of(engine, identity, identity.budget);
            match kept.server.difference(&now) {
                Some((name, then, now)) => {
                    let (then, now) = (sanitize_name(&then), sanitize_name(&now));
                    stale(format!("its {name} was {then}, and is {now} now"))
                }
                None => Earlier::Found(Box::new(kept.probe)),
            }
        }
        _ => stale("its file is damaged".to_owned()),
    }
}

/// Keeps a probe as the last one of the server at `address`.
///
/// # Errors
/// If the file can't be written; the one before is left as it was.
pub fn keep(
    cache: &Path,
    address: &Address,
    engine: ServerKind,
    identity: &Identity,
    probe: &EarlierProbe,
) -> std::io::Result<()> {
    let server = ServerSettings::of(engine, identity, probe.budget);
    let kept = Kept { format: FORMAT, address: hash(address), server, probe: probe.clone() };
    // A file that two processes damage by writing at once is reported when it is read.
    replace(&file(cache, address), &kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::theory::intervals::Interval;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn identity() -> Identity {
        Identity {
            version: Some("b1".into()),
            model: Some("m".into()),
            method: Some("draft-simple".into()),
            budget: Some(4),
            ..Identity::default()
        }
    }

    fn probe() -> EarlierProbe {
        let estimate = |value: f64| {
            let interval = Some(Interval { low: 0.5 * value, high: 2.0 * value });
            Some(Estimate { value, interval })
        };
        EarlierProbe {
            ended: now() - 60,
            tokens: 4000,
            texts: 16,
            temperature: 1.0,
            top_p: 1.0,
            budget: Some(4),
            estimates: Estimates {
                positions: 1000,
                mu: estimate(1.5),
                mu2: estimate(6.0),
                fluid: estimate(1.2),
                ..Estimates::default()
            },
        }
    }

    #[test]
    fn a_probe_is_found_for_its_server_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = address("http://127.0.0.1:8080");
        let read = |at: &Address, engine, identity: &Identity| {
            super::read(folder.path(), at, engine, identity)
        };
        assert_eq!(read(&at, ServerKind::LlamaServer, &identity()), Earlier::None);
        keep(folder.path(), &at, ServerKind::LlamaServer, &identity(), &probe()).unwrap();
        let found = Earlier::Found(Box::new(probe()));
        let Earlier::Found(kept) = read(&at, ServerKind::LlamaServer, &identity()) else {
            panic!()
        };
        assert_eq!(Earlier::Found(Box::new(EarlierProbe { ended: probe().ended, ..*kept })), found);
        let other = address("http://127.0.0.1:8081");
        assert_eq!(read(&other, ServerKind::LlamaServer, &identity()), Earlier::None);
        // What is not reported now can't contradict.
        let silent = Identity::default();
        assert!(matches!(read(&at, ServerKind::LlamaServer, &silent), Earlier::Found(_)));
        for (changed, why) in [
            (Identity { model: Some("x\u{1b}[31m".into()), ..identity() }, "model was m, and is x"),
            (Identity { version: Some("b2".into()), ..identity() }, "version was b1, and is b2"),
            (Identity { budget: Some(8), ..identity() }, "B was 4, and is 8"),
            (Identity { method: Some("ngram".into()), ..identity() }, "speculation was draft"),
        ] {
            let Earlier::Stale(line) = read(&at, ServerKind::LlamaServer, &changed) else {
                panic!()
            };
            assert!(line.contains(why) && !line.contains(char::is_control), "{line}");
        }
        let Earlier::Stale(line) = read(&at, ServerKind::Vllm, &identity()) else { panic!() };
        assert!(line.contains("engine was llama-server, and is vllm"), "{line}");
    }

    #[test]
    fn files_that_are_damaged_are_reported_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = address("http://127.0.0.1:8080");
        let keep = |probe: &EarlierProbe| {
            super::keep(folder.path(), &at, ServerKind::Vllm, &identity(), probe).unwrap();
        };
        let read = || super::read(folder.path(), &at, ServerKind::Vllm, &identity());
        keep(&probe());
        let path = file(folder.path(), &at);
        let good = std::fs::read_to_string(&path).unwrap();
        let mut huge = good.clone();
        huge.push_str(&" ".repeat(MOST_BYTES as usize));
        let later = format!("\"ended\":{}", now() + 2 * MOST_AHEAD);
        let damages = [
            String::new(),
            "{}".into(),
            good[..good.len() / 2].to_owned(),
            good.replace("\"format\":1", "\"format\":2"),
            good.replace("\"value\":1.5", "\"value\":-1.5"),
            good.replace("\"value\":6.0", "\"value\":60.0"),
            good.replace("\"temperature\":1.0", "\"temperature\":0.0"),
            good.replace(&hash(&at), &hash(&address("http://127.0.0.1:9"))),
            good.replace(&format!("\"ended\":{}", probe().ended), &later),
            huge,
        ];
        for damage in damages {
            std::fs::write(&path, &damage).unwrap();
            assert!(matches!(read(), Earlier::Stale(_)), "{}", &damage[..damage.len().min(300)]);
        }
        keep(&probe());
        assert!(matches!(read(), Earlier::Found(_)));
        // Nothing else remains in the folder.
        assert_eq!(std::fs::read_dir(folder.path().join("probes")).unwrap().count(), 1);
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        assert!(super::keep(&blocked, &at, ServerKind::Vllm, &identity(), &probe()).is_err());
    }

    #[test]
    fn only_probes_with_intervals_are_kept() {
        assert_eq!(crate::attach::Summary::default().to_earlier_probe(1.0, 1.0), None);
        let date = EarlierProbe { ended: 1_790_000_000, ..probe() }.utc_date();
        assert_eq!(date, "2026-09-21T14:13:20Z");
    }
}
