//! Downloads a file from a model hub over HTTPS, resuming partial downloads.
//!
//! A partial download is stored as `FILE.TAG.part`, where TAG is derived from the hub's entity tag
//! and the file's size. Partial downloads of two versions thus have different names and are never
//! joined.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{HeaderMap, Response, StatusCode, Uri};

use super::Progress;
use super::error::SourceError;
use super::list::{HubFile, is_sha256};
use super::part::{FetchJob, PartialFile};
use crate::hex::hex;

/// Number of attempts; the count restarts after an attempt that made progress.
const TRIES: u32 = 4;
/// Wait after the first failed attempt.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const MOST_REDIRECTS: usize = 10;
/// Bytes below which an attempt made little progress.
const LITTLE: u64 = 64 << 10;
/// Number of attempts with little progress after which a download is given up.
const MOST_LITTLE_TRIES: u32 = 8;
/// Time over which the speed of a download is judged.
const SPEED_WINDOW: Duration = Duration::from_secs(20);
/// Least speed of a download, in bytes per second.
const LEAST_SPEED: u64 = 1 << 10;

/// Reasons that one attempt failed.
enum AttemptError {
    /// Permanent: another attempt would fail too.
    ForGood(SourceError),
    /// Temporary: another attempt may succeed. Holds what happened.
    ForNow(String),
}

impl From<SourceError> for AttemptError {
    fn from(trouble: SourceError) -> Self {
        AttemptError::ForGood(trouble)
    }
}

fn permanent_error<T>(why: String) -> Result<T, AttemptError> {
    Err(AttemptError::ForGood(SourceError::Remote(why)))
}

/// A hub, and how it is reached.
pub(super) struct HubClient {
    pub agent: Agent,
    /// Address in front of repository names.
    pub endpoint: String,
    pub token: Option<String>,
    /// Wait after the first failed attempt; doubles after each further one.
    pub first_wait: Duration,
}

impl HubClient {
    /// Creates a client for the hub that the environment names.
    pub fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self {
            agent: Agent::new_with_config(agent_config()),
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            token: variable("HF_TOKEN"),
            first_wait: FIRST_WAIT,
        }
    }

    /// Downloads a file into the cache, with several attempts.
    pub fn fetch(
        self,
        hub: &HubFile,
        job: &FetchJob,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<(), SourceError> {
        let url = format!(
            "{}/{}/resolve/{}/{}",
            self.endpoint.trim().trim_end_matches('/'),
            hub.repository,
            hub.revision,
            hub.file
        );
        let mut download = Download {
            agent: self.agent,
            shown: without_password(&url),
            url,
            token: self.token,
            job,
            progress,
            most: held(job).map_or(0, |part| part.1),
        };
        download.check_token();
        let (mut tries, mut little_tries, mut wait) = (0, 0, self.first_wait);
        loop {
            let before = download.most;
            match download.attempt() {
                Ok(()) => return Ok(()),
                Err(AttemptError::ForGood(trouble)) => return Err(trouble),
                Err(AttemptError::ForNow(why)) => {
                    if download.most > before {
                        (tries, wait) = (0, self.first_wait);
                    }
                    // A hub that sends a few bytes at a time must not be asked for ever.
                    little_tries += u32::from(download.most - before < LITTLE);
                    tries += 1;
                    if tries == TRIES || little_tries == MOST_LITTLE_TRIES {
                        return Err(SourceError::Remote(format!(
                            "{}: {why}: check the network, or set HF_ENDPOINT to a mirror",
                            download.shown
                        )));
                    }
                    let what = format!("{why}; trying again ({tries} of {})", TRIES - 1);
                    (download.progress)(&Progress::new(&what, download.most, job.expected.bytes));
                    sleep(wait);
                    wait *= 2;
                }
            }
        }
    }
}

/// Removes the partial downloads of a file, except `keep`.
pub(super) fn remove_partial_downloads(job: &FetchJob, keep: Option<&PathBuf>) {
    for path in parts(job).filter(|path| Some(path) != keep) {
        let _ = fs::remove_file(path);
    }
}

fn parts(job: &FetchJob) -> impl Iterator<Item = PathBuf> {
    let begin = format!("{}.", job.file);
    let is_part = move |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(&begin) && name.ends_with(".part"))
    };
    fs::read_dir(job.folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(is_part)
}

/// Path and size of the existing partial download, unless it is empty.
fn held(job: &FetchJob) -> Option<(PathBuf, u64)> {
    parts(job)
        .find_map(|path| fs::metadata(&path).ok().map(|m| (path, m.len())))
        .filter(|part| part.1 > 0)
}

/// Settings of HTTP for all requests to hubs.
pub(super) fn agent_config() -> Config {
    let seconds = |n| Some(Duration::from_secs(n));
    Agent::config_builder()
        // `request` follows redirects itself, to withhold the token from other hosts and to read
        // the hub's headers.
        .max_redirects(0)
        .http_status_as_error(false)
        .accept_encoding("identity")
        .user_agent(concat!("speclight/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(seconds(30))
        .timeout_recv_response(seconds(60))
        .timeout_per_read(seconds(60))
        .build()
}

struct Download<'a> {
    agent: Agent,
    url: String,
    /// Address for messages, without a password.
    shown: String,
    token: Option<String>,
    job: &'a FetchJob<'a>,
    progress: &'a mut dyn FnMut(&Progress),
    /// Largest number of bytes held so far.
    most: u64,
}

/// Removes user name and password from an address.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

/// Formats an address for messages: without password, and without a query, which may be signed.
fn shown_uri(uri: &Uri) -> String {
    let text = without_password(&uri.to_string());
    text.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// Returns true for a host name of this machine.
fn is_local(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Judges the speed of a download over windows of [`SPEED_WINDOW`].
struct SpeedLimit {
    /// Begin of the window, and the number of bytes at that time.
    since: Instant,
    bytes: u64,
}

impl SpeedLimit {
    fn new(bytes: u64, now: Instant) -> Self {
        Self { since: now, bytes }
    }

    /// Returns true if the window has ended with fewer bytes than [`LEAST_SPEED`] allows.
    fn is_too_slow(&mut self, bytes: u64, now: Instant) -> bool {
        if now.duration_since(self.since) < SPEED_WINDOW {
            return false;
        }
        let slow = bytes.saturating_sub(self.bytes) < LEAST_SPEED * SPEED_WINDOW.as_secs();
        *self = Self::new(bytes, now);
        slow
    }
}

impl Download<'_> {
    /// Withholds the token from hosts that it would reach unencrypted, and says so.
    ///
    /// A hub on this machine gets it, with a warning.
    fn check_token(&mut self) {
        let Some(uri) = self.url.parse::<Uri>().ok().filter(|_| self.token.is_some()) else {
            return;
        };
        if uri.scheme_str() == Some("https") {
            return;
        }
        let what = if uri.host().is_some_and(is_local) {
            "HF_TOKEN is sent over plain http, as HF_ENDPOINT says; give an https address"
        } else {
            self.token = None;
            "HF_TOKEN is not sent over plain http, where others can read it; set HF_ENDPOINT to an https address"
        };
        (self.progress)(&Progress::new(what, 0, None));
    }

    /// Makes one request, resuming the partial download if there is one.
    fn attempt(&mut self) -> Result<(), AttemptError> {
        let held = held(self.job);
        let (mut response, mut known) = self.request(held.as_ref().map_or(0, |part| part.1))?;
        if let Some((path, bytes)) = &held {
            let goes_on = response.status() == StatusCode::PARTIAL_CONTENT
                && range(response.headers()).is_some_and(|(first, total)| {
                    first == *bytes && self.part(&known, total).as_ref() == Some(path)
                });
            if !goes_on && response.status() != StatusCode::OK {
                // The partial download is of another version, or longer than the file.
                if matches!(
                    response.status(),
                    StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
                ) {
                    remove_partial_downloads(self.job, None);
                    (response, known) = self.request(0)?;
                }
            }
        }
        let (resumed, total) = match response.status() {
            StatusCode::OK => (None, response.body().content_length()),
            StatusCode::PARTIAL_CONTENT => match (held, range(response.headers())) {
                (Some((path, bytes)), Some((first, total))) if first == bytes => {
                    (Some(path), Some(total))
                }
                _ => {
                    return permanent_error(format!(
                        "{}: the hub sent a range that was not asked for",
                        self.shown
                    ));
                }
            },
            status => return Err(self.refused(status)),
        };
        if let (Some(have), Some(want)) = (total, self.job.expected.bytes)
            && have != want
        {
            return permanent_error(format!(
                "{}: it has {have} bytes and must have {want}: correct bytes in models.toml",
                self.shown
            ));
        }
        self.receive(response, &known, resumed, total)
    }

    /// Requests the file from byte `first` on, following redirects.
    ///
    /// Also returns the hub's entity tag of the file.
    fn request(&self, first: u64) -> Result<(Response<ureq::Body>, Option<String>), AttemptError> {
        let mut at: Uri = match self.url.parse::<Uri>() {
            Ok(uri)
                if matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() =>
            {
                uri
            }
            _ => {
                return permanent_error(format!(
                    "{}: no address: set HF_ENDPOINT to one as https://huggingface.co",
                    self.shown
                ));
            }
        };
        let mut token = self.token.as_deref();
        let mut known = None;
        for _ in 0..MOST_REDIRECTS {
            let mut request = self.agent.get(at.clone());
            if first > 0 {
                request = request.header("range", format!("bytes={first}-"));
            }
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {}", token.trim()));
            }
            let response = match request.call() {
                Ok(response) => response,
                Err(ureq::Error::Http(e)) => {
                    return permanent_error(format!(
                        "HF_TOKEN can't be sent ({e}): set it to the token alone"
                    ));
                }
                Err(e) => {
                    // Some errors repeat the address.
                    let why = e.to_string().replace(&self.url, &self.shown);
                    return Err(AttemptError::ForNow(
                        why.replace(&at.to_string(), &shown_uri(&at)),
                    ));
                }
            };
            let header =
                |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            known = known.or_else(|| header("x-linked-etag").map(str::to_owned));
            if !response.status().is_redirection() {
                known = known.or_else(|| header("etag").map(str::to_owned));
                return Ok((response, known));
            }
            let Some(next) = header("location").and_then(|location| resolve(&at, location)) else {
                return permanent_error(format!(
                    "{}: redirected to no address: check HF_ENDPOINT",
                    shown_uri(&at)
                ));
            };
            if at.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return permanent_error(format!(
                    "{}: redirected to {}, which anyone can change on the way: check HF_ENDPOINT",
                    shown_uri(&at),
                    shown_uri(&next)
                ));
            }
            if (next.scheme_str(), next.authority()) != (at.scheme_str(), at.authority()) {
                token = None;
            }
            at = next;
        }
        permanent_error(format!("{}: redirected in a circle: check HF_ENDPOINT", self.shown))
    }

    /// Writes the body to the partial download, and renames it when it is complete.
    fn receive(
        &mut self,
        response: Response<ureq::Body>,
        known: &Option<String>,
        resumed: Option<PathBuf>,
        total: Option<u64>,
    ) -> Result<(), AttemptError> {
        let job = self.job;
        let named = total.and_then(|total| self.part(known, total));
        let keeps = named.is_some();
        let path = named.unwrap_or_else(|| job.folder.join(format!("{}.part", job.file)));
        let again = resumed.is_some();
        let mut part = if again {
            let progress = &mut self.progress;
            PartialFile::resume(&path, &mut |bytes| {
                progress(&Progress::new("checking what has arrived", bytes, total))
            })?
        } else {
            remove_partial_downloads(job, None);
            PartialFile::create(&path)?
        };
        let what = format!("downloading {}", job.file);
        let mut speed = SpeedLimit::new(part.bytes(), Instant::now());
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        let broken = loop {
            (self.progress)(&Progress::new(&what, part.bytes(), total));
            match body.read(&mut buffer) {
                Ok(0) if total.is_some_and(|total| part.bytes() < total) => {
                    break Some("the connection ended".to_owned());
                }
                Ok(0) => break None,
                Ok(n) => {
                    part.write(&buffer[..n])?;
                    if speed.is_too_slow(part.bytes(), Instant::now()) {
                        break Some(format!("slower than {LEAST_SPEED} bytes a second"));
                    }
                    // A body without a length, or with a wrong one, may never end.
                    if let Some(most) =
                        job.expected.bytes.or(total).filter(|most| part.bytes() > *most)
                    {
                        drop(part);
                        let _ = fs::remove_file(&path);
                        return permanent_error(format!(
                            "{}: it has more than the {most} bytes that it must have",
                            self.shown
                        ));
                    }
                }
                Err(e) => break Some(e.to_string()),
            }
        };
        if let Some(why) = broken {
            let bytes = part.bytes();
            drop(part);
            if keeps {
                self.most = self.most.max(bytes);
            } else {
                remove_partial_downloads(job, None);
            }
            let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
            return Err(AttemptError::ForNow(format!(
                "broken off after {bytes}{of} bytes ({why})"
            )));
        }
        let mut expected = job.expected.clone();
        // The hub's tag of a large file is its SHA-256.
        let told = known
            .as_deref()
            .map(|tag| tag.trim_matches('"').to_ascii_lowercase())
            .filter(|tag| is_sha256(tag));
        expected.sha256 = expected.sha256.or(told);
        match part.finish(&expected, &job.folder.join(job.file)) {
            // The part resumed from an earlier run may have been damaged.
            Err(SourceError::Remote(what)) if again => {
                Err(AttemptError::ForNow(format!("it {what}")))
            }
            Err(SourceError::Remote(what)) => permanent_error(format!(
                "{}: it {what}: correct models.toml, or fetch again if it was damaged on the way",
                self.shown
            )),
            other => Ok(other?),
        }
    }

    /// Path for the partial download of a file with this tag and size.
    ///
    /// `None` if the tag is missing, or weak and so does not guarantee equal bytes.
    fn part(&self, tag: &Option<String>, total: u64) -> Option<PathBuf> {
        let tag = tag.as_deref().filter(|tag| !tag.starts_with("W/"))?;
        let name = hex(&Sha256::digest(format!("{total} {tag}")));
        Some(self.job.folder.join(format!("{}.{}.part", self.job.file, &name[..16])))
    }

    fn refused(&self, status: StatusCode) -> AttemptError {
        let url = &self.shown;
        let why = match (status.as_u16(), &self.token) {
            (401 | 403, None) => {
                format!(
                    "{url}: HTTP {status}: the hub wants to know who asks: accept the model's terms there and set HF_TOKEN"
                )
            }
            (401 | 403, Some(_)) => {
                format!(
                    "{url}: HTTP {status}: HF_TOKEN does not open it: accept the model's terms there, or renew the token"
                )
            }
            (404, _) => format!(
                "{url}: HTTP {status}: correct repository, revision and file in models.toml"
            ),
            (408 | 429 | 500.., _) => return AttemptError::ForNow(format!("HTTP {status}")),
            _ => format!("{url}: HTTP {status}: check HF_ENDPOINT"),
        };
        AttemptError::ForGood(SourceError::Remote(why))
    }
}

/// Parses first byte and total of `content-range: bytes first-last/total`.
fn range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = headers.get("content-range")?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

/// Resolves the address of a redirect from `at`.
fn resolve(at: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (at.scheme_str()?, at.authority()?);
    let text = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        format!(
            "{scheme}://{authority}{}/{location}",
            at.path().rsplit_once('/').map_or("", |(folder, _)| folder)
        )
    };
    text.parse().ok().filter(|uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn passwords_and_queries_are_not_shown() {
        for (url, shown) in [
            ("https://me:secret@hub.example/o/r", "https://hub.example/o/r"),
            ("https://me:se@cret@hub.example:8080/o@r", "https://hub.example:8080/o@r"),
            ("https://hub.example/o@r?a=b@c", "https://hub.example/o@r?a=b@c"),
            ("https://token@hub.example", "https://hub.example"),
            ("no address", "no address"),
        ] {
            assert_eq!(without_password(url), shown);
        }
        let signed: Uri = "https://cdn.example/x?signature=secret".parse().unwrap();
        assert_eq!(shown_uri(&signed), "https://cdn.example/x");
    }

    #[test]
    fn hosts_of_this_machine_are_known() {
        for (host, local) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("[::1]", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
        ] {
            assert_eq!(is_local(host), local, "{host}");
        }
    }

    #[test]
    fn a_download_is_too_slow_by_whole_windows() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let enough = LEAST_SPEED * SPEED_WINDOW.as_secs();
        let mut speed = SpeedLimit::new(1000, start);
        assert!(!speed.is_too_slow(1000, at(19)), "the window has not ended");
        assert!(!speed.is_too_slow(1000 + enough, at(20)));
        assert!(!speed.is_too_slow(1000 + enough, at(39)));
        assert!(speed.is_too_slow(999 + 2 * enough, at(40)));
    }

    #[test]
    fn redirects_of_every_form() {
        let at: Uri = "https://hub.example/o/r/resolve/main/f".parse().unwrap();
        let to = |location| resolve(&at, location).map(|uri| uri.to_string());
        assert_eq!(to("http://cdn.example/x?sig=1").unwrap(), "http://cdn.example/x?sig=1");
        assert_eq!(to("//cdn.example/x").unwrap(), "https://cdn.example/x");
        assert_eq!(to("/n/r/resolve/main/f").unwrap(), "https://hub.example/n/r/resolve/main/f");
        assert_eq!(to("g").unwrap(), "https://hub.example/o/r/resolve/main/g");
        assert_eq!(to("file:///etc/passwd"), None);
        assert_eq!(to("ftp://x/y"), None);
    }

    #[test]
    fn ranges_are_read_or_refused() {
        let read = |text: &str| {
            range(&HeaderMap::from_iter([(
                "content-range".parse().unwrap(),
                text.parse().unwrap(),
            )]))
        };
        assert_eq!(read("bytes 5-9/10"), Some((5, 10)));
        for wrong in ["bytes */10", "bytes 5-9/*", "5-9/10", "bytes -9/10", "bytes 5/10"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
