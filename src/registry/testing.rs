//! Downloads over a given connector, for fuzzing.

use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::Connector;

use super::error::SourceError;
use super::hub::{HubClient, agent_config};
use super::list::HubFile;
use super::part::{Expected, FetchJob};

/// Downloads `file` into `folder` from a hub, with a token.
///
/// There is no wait between attempts. The error is the line for the user.
pub(crate) fn fetch_over(
    connector: impl Connector,
    resolver: impl Resolver,
    [endpoint, token]: [&str; 2],
    folder: &Path,
    file: &str,
    expected: Option<(u64, String)>,
) -> Result<(), String> {
    let client = HubClient {
        agent: Agent::with_parts(agent_config(), connector, resolver),
        endpoint: endpoint.into(),
        token: Some(token.into()),
        first_wait: Duration::ZERO,
    };
    let hub = HubFile { repository: "o/r".into(), revision: "main".into(), file: file.into() };
    let (bytes, sha256) = expected.unzip();
    let job = FetchJob { folder, file, expected: Expected { bytes, sha256 } };
    client.fetch(&hub, &job, &mut |_| ()).map_err(|error| match error {
        SourceError::Here(error) => error.to_string(),
        SourceError::Remote(line) => line,
    })
}
