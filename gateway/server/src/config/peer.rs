//! The `[peer]` table: the QUIC link to neighbours.

use std::net::SocketAddr;
use std::path::PathBuf;

use peer::{Fingerprint, LinkConfig};
use serde::{Deserialize, Serialize};
use sourcing::{Price, SourceId};

use super::price::price;
use super::{UsdPerGb, UsdPerRequest};

/// The link and who is on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerConfig {
    /// The UDP address to listen on. Port 0 takes any free port.
    pub(crate) listen: SocketAddr,
    /// This node's certificate in PEM; self-signed will do, its key is what neighbours pin.
    pub(crate) cert: PathBuf,
    /// Its private key in PEM.
    pub(crate) key: PathBuf,
    /// How the link behaves.
    #[serde(default)]
    pub(crate) link: LinkConfig,
    /// Who may fetch from us, and whom we fetch from.
    #[serde(default)]
    pub(crate) neighbour: Vec<NeighbourConfig>,
}

/// One `[[peer.neighbour]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NeighbourConfig {
    /// What it is called as a source.
    pub(crate) id: SourceId,
    /// Where it listens: `host:port`.
    pub(crate) address: String,
    /// What its `weir-gateway --peer-id` prints.
    pub(crate) fingerprint: String,
    /// Price of its bytes; default 0.
    #[serde(default)]
    pub(crate) usd_per_gb: UsdPerGb,
    /// Price of a request to it; default 0.
    #[serde(default)]
    pub(crate) usd_per_request: UsdPerRequest,
}

impl NeighbourConfig {
    pub(crate) fn price(&self) -> Price {
        price(self.usd_per_gb, self.usd_per_request)
    }
}

impl PeerConfig {
    /// Everything that makes no sense, each with its key.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.link.problems();
        for neighbour in &self.neighbour {
            let mut require = |holds: bool, text: &str| {
                if !holds {
                    problems.push(format!("peer.neighbour.{}.{text}", neighbour.id));
                }
            };
            let port = neighbour.address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            require(port.is_some_and(|port| port > 0), "address: must be host:port");
            let print = neighbour.fingerprint.parse::<Fingerprint>();
            require(print.is_ok(), "fingerprint: 64 hex digits, as `weir-gateway --peer-id` prints them");
        }
        problems
    }
}
