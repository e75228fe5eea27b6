//! How the link behaves. The defaults are the ones that measured best; each says what it protects.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::ByteSize;

/// The largest UDP payload that may be tried. The transport hands the kernel ten datagrams at once, and ten
/// of more than 6,553 bytes do not fit the 65,535 bytes of one batch: the path would fall back to 1,200.
pub(crate) const MAX_MTU: u16 = 6_500;

/// The smallest UDP payload a QUIC path must carry (RFC 9000 section 14).
pub(crate) const MIN_MTU: u16 = 1_200;

/// The bounds and waits of one [`crate::Link`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkConfig {
    /// Connections kept to each neighbour; default 2. More than one is for loss recovery, not for
    /// parallelism: four reached twice the goodput of one at 0.1 % loss and 40 ms. 1 to 16.
    pub connections: usize,
    /// How long a handshake may take before the neighbour counts as dead; default 2 s.
    #[serde(with = "media::human_duration")]
    pub connect_timeout: Duration,
    /// Pause before a lost connection is made anew; default 250 ms, twice as long after each failure.
    #[serde(with = "media::human_duration")]
    pub reconnect_after: Duration,
    /// The longest such pause; default 10 s.
    #[serde(with = "media::human_duration")]
    pub reconnect_longest: Duration,
    /// How often an idle connection is kept warm; default 3 s. A new one costs two round trips before the
    /// first byte.
    #[serde(with = "media::human_duration")]
    pub keep_alive: Duration,
    /// Silence after which a connection is given up; default 10 s.
    #[serde(with = "media::human_duration")]
    pub idle_timeout: Duration,
    /// Neighbours' connections accepted at the same time; default 64. More are refused.
    pub max_connections: usize,
    /// Requests that one connection may have open at the same time; default 64.
    pub max_streams: u32,
    /// Segments served at the same time over all connections; default 256. More are told to come later.
    pub max_uploads: usize,
    /// How long a neighbour may take to say what it wants; default 2 s.
    #[serde(with = "media::human_duration")]
    pub request_timeout: Duration,
    /// How long a neighbour may take none of the bytes it asked for; default 10 s.
    #[serde(with = "media::human_duration")]
    pub upload_stall_timeout: Duration,
    /// Bytes in flight towards us, for each connection; default 16 MiB, twice the bandwidth-delay product of
    /// 1 Gb/s over 64 ms.
    pub receive_window: ByteSize,
    /// Bytes kept for retransmission, for each connection; default 16 MiB. Times `max_connections`, this is
    /// what slow neighbours can pin at most.
    pub send_window: ByteSize,
    /// Kernel socket buffers; default 4 MiB. The kernel's own limit (`net.core.rmem_max`) may be lower.
    pub socket_buffer: ByteSize,
    /// The largest UDP payload to probe for; default and most 6500, least 1200.
    pub mtu_upper_bound: u16,
    /// Datagrams received before an acknowledgement is due; default 10, which saves receivers' CPU.
    pub ack_threshold: u32,
    /// The longest an acknowledgement may wait for that; default 25 ms.
    #[serde(with = "media::human_duration")]
    pub max_ack_delay: Duration,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            connections: 2,
            connect_timeout: Duration::from_secs(2),
            reconnect_after: Duration::from_millis(250),
            reconnect_longest: Duration::from_secs(10),
            keep_alive: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(10),
            max_connections: 64,
            max_streams: 64,
            max_uploads: 256,
            request_timeout: Duration::from_secs(2),
            upload_stall_timeout: Duration::from_secs(10),
            receive_window: ByteSize::mib(16),
            send_window: ByteSize::mib(16),
            socket_buffer: ByteSize::mib(4),
            mtu_upper_bound: MAX_MTU,
            ack_threshold: 10,
            max_ack_delay: Duration::from_millis(25),
        }
    }
}

impl LinkConfig {
    /// Everything that makes no sense, each with its key in the node's configuration. Empty means usable.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut unless = |fine: bool, problem: &str| {
            if !fine {
                problems.push(problem.to_owned());
            }
        };
        let window = ByteSize::from(64 * 1024)..=ByteSize::gib(1);
        unless((1..=16).contains(&self.connections), "peer.link.connections: must be 1 to 16");
        unless(!self.connect_timeout.is_zero(), "peer.link.connect_timeout: must not be 0");
        unless(
            self.keep_alive < self.idle_timeout,
            "peer.link.keep_alive: must be shorter than idle_timeout",
        );
        unless(!self.reconnect_after.is_zero(), "peer.link.reconnect_after: must not be 0");
        let ordered = self.reconnect_longest >= self.reconnect_after;
        unless(ordered, "peer.link.reconnect_longest: must not be less than reconnect_after");
        let hour = Duration::from_secs(3_600);
        unless(self.idle_timeout <= hour, "peer.link.idle_timeout: at most 1h");
        unless(self.max_connections > 0, "peer.link.max_connections: must not be 0");
        unless((1..=4_096).contains(&self.max_streams), "peer.link.max_streams: must be 1 to 4096");
        unless(self.max_uploads > 0, "peer.link.max_uploads: must not be 0");
        unless(!self.request_timeout.is_zero(), "peer.link.request_timeout: must not be 0");
        unless(!self.upload_stall_timeout.is_zero(), "peer.link.upload_stall_timeout: must not be 0");
        unless(window.contains(&self.receive_window), "peer.link.receive_window: must be 64KiB to 1GiB");
        unless(window.contains(&self.send_window), "peer.link.send_window: must be 64KiB to 1GiB");
        unless(window.contains(&self.socket_buffer), "peer.link.socket_buffer: must be 64KiB to 1GiB");
        let mtu = (MIN_MTU..=MAX_MTU).contains(&self.mtu_upper_bound);
        unless(mtu, "peer.link.mtu_upper_bound: must be 1200 to 6500");
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named_at_once() {
        assert_eq!(LinkConfig::default().problems(), Vec::<String>::new());
        let bad = LinkConfig {
            connections: 0,
            keep_alive: Duration::from_secs(10),
            mtu_upper_bound: 8_900,
            ..LinkConfig::default()
        };
        assert_eq!(
            bad.problems(),
            [
                "peer.link.connections: must be 1 to 16",
                "peer.link.keep_alive: must be shorter than idle_timeout",
                "peer.link.mtu_upper_bound: must be 1200 to 6500"
            ]
        );
    }
}
