//! What an operator may choose about the viewer's edge.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The `[front]` table. Every bound of this room stands here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrontConfig {
    /// Addresses for plain HTTP/1.1 and, by prior knowledge, HTTP/2. Default `127.0.0.1:8480`. Port 0 takes
    /// any free port.
    pub plain: Vec<SocketAddr>,
    /// Addresses for HTTPS. Default none; they need a certificate.
    pub tls: Vec<SocketAddr>,
    /// Connections the kernel may hold before we accept them; default 1024 (capped by `net.core.somaxconn`).
    pub backlog: u32,
    /// Open connections over all addresses; default 10,000. One more takes the place of the one that has been
    /// idle longest; if none is idle, it is closed at once, so that its player tries another host instead of
    /// waiting in a queue.
    pub max_connections: usize,
    /// Open connections from one IPv4 address or one IPv6 /64; default 2,048, because a carrier puts thousands
    /// of households behind one address. 0 for any number: behind a load balancer, whose address all have.
    pub max_connections_per_address: usize,
    /// How long a TLS handshake may take; default 10 s.
    #[serde(with = "media::human_duration")]
    pub handshake_timeout: Duration,
    /// How long a request head may take from its first byte, and a new connection to its first request;
    /// default 10 s.
    #[serde(with = "media::human_duration")]
    pub header_timeout: Duration,
    /// How long a connection may rest between requests; default 75 s. Players that buffer half a minute keep
    /// their connection that way.
    #[serde(with = "media::human_duration")]
    pub idle_timeout: Duration,
    /// How long a viewer may take next to nothing of a response; default 30 s. A player that has paused reads
    /// nothing and comes back with a range request.
    #[serde(with = "media::human_duration")]
    pub write_timeout: Duration,
    /// Most bytes of a request's line and header fields; default 16384.
    pub max_head_bytes: usize,
    /// Most header fields of a request; default 64.
    pub max_header_fields: usize,
    /// Bytes of a response that one HTTP/1.1 connection may hold ready for the socket, and the bound of its
    /// read buffer; default 65536. They are references into the cache, not copies, when they come from memory.
    pub http1_buffer_bytes: usize,
    /// Requests one HTTP/2 connection may have open; default 64.
    pub http2_max_streams: u32,
    /// Bytes of a response that one HTTP/2 stream may hold ready; default 65536.
    pub http2_buffer_bytes: usize,
    /// Verified tokens to remember; default 20,000. Each costs about 300 bytes.
    pub token_cache_entries: u64,
    /// Refused tokens to remember, so that a player that insists does not cost a signature check each time;
    /// default 5,000.
    pub refused_token_entries: u64,
    /// How long a refusal is remembered; default 10 s.
    #[serde(with = "media::human_duration")]
    pub refused_token_ttl: Duration,
    /// A file whose text, sent as `Weir-Debug`, shows the sources and their order with each answer; default none,
    /// nobody sees them.
    pub debug_key_file: Option<PathBuf>,
    /// When there is more to do than can be done.
    pub overload: OverloadConfig,
}

impl Default for FrontConfig {
    fn default() -> Self {
        Self {
            plain: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8480))],
            tls: Vec::new(),
            backlog: 1024,
            max_connections: 10_000,
            max_connections_per_address: 2_048,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            max_head_bytes: 16 * 1024,
            max_header_fields: 64,
            http1_buffer_bytes: 64 * 1024,
            http2_max_streams: 64,
            http2_buffer_bytes: 64 * 1024,
            token_cache_entries: 20_000,
            refused_token_entries: 5_000,
            refused_token_ttl: Duration::from_secs(10),
            debug_key_file: None,
            overload: OverloadConfig::default(),
        }
    }
}

impl FrontConfig {
    /// Every impossible combination, each with its key; empty when the configuration can work.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, text: &str| {
            if !holds {
                problems.push(text.to_owned());
            }
        };
        require(!(self.plain.is_empty() && self.tls.is_empty()), "front.plain, front.tls: both are empty");
        require((1..=65_535).contains(&self.backlog), "front.backlog: 1 to 65535");
        require(self.max_connections > 0, "front.max_connections: must not be 0");
        for (key, wait) in [
            ("handshake_timeout", self.handshake_timeout),
            ("header_timeout", self.header_timeout),
            ("idle_timeout", self.idle_timeout),
            ("write_timeout", self.write_timeout),
        ] {
            let sane = (Duration::from_millis(50)..=Duration::from_secs(3600)).contains(&wait);
            require(sane, &format!("front.{key}: 50ms to 1h"));
        }
        let head = (1024..=65_536).contains(&self.max_head_bytes);
        require(head, "front.max_head_bytes: 1024 to 65536");
        require((8..=1024).contains(&self.max_header_fields), "front.max_header_fields: 8 to 1024");
        // A head must fit the read buffer, or no request of that size could ever be read.
        let fits = self.http1_buffer_bytes >= self.max_head_bytes.max(8192);
        require(fits, "front.http1_buffer_bytes: at least 8192 and front.max_head_bytes");
        require((1..=1024).contains(&self.http2_max_streams), "front.http2_max_streams: 1 to 1024");
        require(self.http2_buffer_bytes >= 16_384, "front.http2_buffer_bytes: at least 16384");
        require(self.token_cache_entries > 0, "front.token_cache_entries: must not be 0");
        require(self.plain.len() + self.tls.len() <= 64, "front.plain, front.tls: more than 64 addresses");
        problems.extend(self.overload.problems());
        problems
    }
}

/// The `[front.overload]` table: what this node can do, and where viewers go when it is asked for more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OverloadConfig {
    /// Responses under way that this node is built for; default 8,000. New sessions and unknown ones get no
    /// more than this; sessions that are being served get a quarter more.
    pub max_active_responses: usize,
    /// Responses that one session may have under way; default 1,024. A player has a few; whoever passes a token
    /// on, or never reads what he asked for, is told 429 before he has everybody's places.
    pub max_responses_per_session: usize,
    /// What the uplink carries, in bits per second; default 0, not known. Set it: a full uplink is what a node
    /// meets first, and nothing else tells.
    pub egress_bits_per_second: u64,
    /// How late the runtime may be; default 200 ms. Later than that in three looks in a row means that the
    /// processors are the bound.
    #[serde(with = "media::human_duration")]
    pub scheduling_lag: Duration,
    /// Where new sessions go at overload: a base URL that serves the same paths; default none, they get 503.
    pub cdn: Option<String>,
    /// Sessions remembered as being served; default 100,000, about 5 MB.
    pub sessions_remembered: usize,
    /// How long after its last request a session counts as being served; default 5 min.
    #[serde(with = "media::human_duration")]
    pub session_memory: Duration,
    /// The least and the most that a refused viewer is told to wait; default 2 s and 10 s. Each viewer is told
    /// another moment between them.
    #[serde(with = "media::human_duration")]
    pub retry_after_least: Duration,
    /// See `retry_after_least`.
    #[serde(with = "media::human_duration")]
    pub retry_after_most: Duration,
}

impl Default for OverloadConfig {
    fn default() -> Self {
        Self {
            max_active_responses: 8_000,
            max_responses_per_session: 1_024,
            egress_bits_per_second: 0,
            scheduling_lag: Duration::from_millis(200),
            cdn: None,
            sessions_remembered: 100_000,
            session_memory: Duration::from_secs(300),
            retry_after_least: Duration::from_secs(2),
            retry_after_most: Duration::from_secs(10),
        }
    }
}

impl OverloadConfig {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, text: &str| {
            if !holds {
                problems.push(format!("front.overload.{text}"));
            }
        };
        require(self.max_active_responses > 0, "max_active_responses: must not be 0");
        require(self.max_responses_per_session > 0, "max_responses_per_session: must not be 0");
        let egress = self.egress_bits_per_second == 0 || self.egress_bits_per_second >= 1_000_000;
        require(egress, "egress_bits_per_second: 0, or at least 1000000");
        let lag = (Duration::from_millis(10)..=Duration::from_secs(10)).contains(&self.scheduling_lag);
        require(lag, "scheduling_lag: 10ms to 10s");
        require(self.cdn.as_deref().is_none_or(is_base), "cdn: http:// or https://, a host, perhaps a path");
        require(
            (1_000..=10_000_000).contains(&self.sessions_remembered),
            "sessions_remembered: 1000 to 10000000",
        );
        let memory = (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&self.session_memory);
        require(memory, "session_memory: 1s to 24h");
        let (least, most) = (self.retry_after_least, self.retry_after_most);
        let ordered = Duration::from_secs(1) <= least && least <= most && most <= Duration::from_secs(3_600);
        require(ordered, "retry_after_least, retry_after_most: 1s to 1h, the least first");
        problems
    }
}

fn is_base(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let web = matches!(uri.scheme_str(), Some("http" | "https"));
    web && uri.authority().is_some_and(|authority| !authority.as_str().contains('@')) && uri.query().is_none()
}

/// The `[admin]` table: metrics, health and purges, for the operator's own network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Where to listen; default `127.0.0.1:8481`. Whoever reaches it may read the metrics.
    pub listen: SocketAddr,
    /// Open connections; default 64.
    pub max_connections: usize,
    /// A file whose text whoever posts must send as `Authorization: Bearer`; default none, who reaches the
    /// listener may purge.
    pub key_file: Option<PathBuf>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8481)), max_connections: 64, key_file: None }
    }
}

impl AdminConfig {
    /// Every impossible combination, each with its key.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        if self.max_connections > 0 {
            return Vec::new();
        }
        vec!["admin.max_connections: must not be 0".to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_can_work_and_survive_the_round_trip() {
        let config = FrontConfig::default();
        assert_eq!(config.problems(), Vec::<String>::new());
        let text = toml::to_string(&config).expect("serialises");
        assert_eq!(toml::from_str::<FrontConfig>(&text).expect("parses"), config);
        assert_eq!(toml::from_str::<FrontConfig>("").expect("parses"), config);
        assert_eq!(toml::from_str::<AdminConfig>("").expect("parses"), AdminConfig::default());
    }

    #[test]
    fn units_are_read_and_unknown_keys_refused() {
        let text = "plain = ['127.0.0.1:0', '[::1]:0']\nidle_timeout = '2m'";
        let config: FrontConfig = toml::from_str(text).expect("parses");
        assert_eq!((config.plain.len(), config.idle_timeout), (2, Duration::from_secs(120)));
        for bad in ["listen = 1", "idle_timeout = 5", "plain = ['localhost']", "max_connections = -1"] {
            assert!(toml::from_str::<FrontConfig>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_problems_are_told_together() {
        let config = FrontConfig {
            plain: vec![],
            max_connections: 0,
            write_timeout: Duration::ZERO,
            http1_buffer_bytes: 9000,
            ..FrontConfig::default()
        };
        let problems = config.problems();
        assert_eq!(problems.len(), 4, "{problems:?}");
        for cdn in
            ["cdn.example", "ftp://cdn.example", "https://u@cdn.example", "https://cdn.example/?x", "/p", ""]
        {
            let overload = OverloadConfig { cdn: Some(cdn.to_owned()), ..OverloadConfig::default() };
            assert_eq!(overload.problems().len(), 1, "{cdn}");
        }
        let overload =
            OverloadConfig { cdn: Some("https://cdn.example/films".to_owned()), ..OverloadConfig::default() };
        assert_eq!(overload.problems(), Vec::<String>::new());
        let backwards =
            OverloadConfig { retry_after_least: Duration::from_secs(20), ..OverloadConfig::default() };
        assert_eq!(backwards.problems().len(), 1);
        assert!(problems.iter().all(|problem| problem.starts_with("front.")));
        assert_eq!(AdminConfig { max_connections: 0, ..AdminConfig::default() }.problems().len(), 1);
    }
}
