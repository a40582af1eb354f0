//! Downloads a file from a model hub over HTTPS, resuming partial downloads.
//!
//! A partial download is stored as `FILE.TAG.part`, where TAG is derived from the hub's entity tag
//! and the file's size. Partial downloads of two versions thus have different names and are never
//! joined.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::{HeaderMap, Response, StatusCode, Uri};

use super::Progress;
use super::error::SourceError;
use super::list::{HubFile, is_sha256};
use super::part::PartialFile;
use super::registry_model::FetchJob;
use crate::hex::hex;

/// Number of attempts; the count restarts after an attempt that made progress.
const TRIES: u32 = 4;
/// Wait after the first failed attempt; doubles after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const MOST_REDIRECTS: usize = 10;

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

/// Downloads a file into the cache, with several attempts.
pub(super) fn fetch(
    hub: &HubFile,
    job: &FetchJob,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(), SourceError> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
    let url = format!(
        "{}/{}/resolve/{}/{}",
        endpoint.trim().trim_end_matches('/'),
        hub.repository,
        hub.revision,
        hub.file
    );
    let mut download = Download {
        agent: agent(),
        url,
        token: variable("HF_TOKEN"),
        job,
        progress,
        most: held(job).map_or(0, |part| part.1),
    };
    let (mut tries, mut wait) = (0, FIRST_WAIT);
    loop {
        let before = download.most;
        match download.attempt() {
            Ok(()) => return Ok(()),
            Err(AttemptError::ForGood(trouble)) => return Err(trouble),
            Err(AttemptError::ForNow(why)) => {
                if download.most > before {
                    (tries, wait) = (0, FIRST_WAIT);
                }
                tries += 1;
                if tries == TRIES {
                    return Err(SourceError::Remote(format!(
                        "{}: {why}: check the network, or set HF_ENDPOINT to a mirror",
                        download.url
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

fn agent() -> Agent {
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
        .into()
}

struct Download<'a> {
    agent: Agent,
    url: String,
    token: Option<String>,
    job: &'a FetchJob<'a>,
    progress: &'a mut dyn FnMut(&Progress),
    /// Largest number of bytes held so far.
    most: u64,
}

impl Download<'_> {
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
                        self.url
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
                self.url
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
                    self.url
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
                Err(e) => return Err(AttemptError::ForNow(e.to_string())),
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
                    "{at}: redirected to no address: check HF_ENDPOINT"
                ));
            };
            if at.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return permanent_error(format!(
                    "{at}: redirected to {next}, which anyone can change on the way: check HF_ENDPOINT"
                ));
            }
            if (next.scheme_str(), next.authority()) != (at.scheme_str(), at.authority()) {
                token = None;
            }
            at = next;
        }
        permanent_error(format!("{}: redirected in a circle: check HF_ENDPOINT", self.url))
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
                    // A body without a length, or with a wrong one, may never end.
                    if let Some(most) =
                        job.expected.bytes.or(total).filter(|most| part.bytes() > *most)
                    {
                        drop(part);
                        let _ = fs::remove_file(&path);
                        return permanent_error(format!(
                            "{}: it has more than the {most} bytes that it must have",
                            self.url
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
                self.url
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
        let url = &self.url;
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
