//! The real program in a process of its own, and a client that hides nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use socket2::{Domain, Socket, Type};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-gateway");
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a state, not for a moment.
pub(crate) fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    #[expect(clippy::disallowed_methods, reason = "a test of real processes waits in real time")]
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        #[expect(clippy::disallowed_methods, reason = "a test of real processes waits in real time")]
        let late = Instant::now() > deadline;
        assert!(!late, "never: {what}");
        #[expect(clippy::disallowed_methods, reason = "a test of real processes waits in real time")]
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs the program to its end.
pub(crate) fn run(config: &Path, flag: &str) -> Output {
    Command::new(PROGRAM).arg("--config").arg(config).arg(flag).output().expect("the program runs")
}

pub(crate) struct Node {
    child: Child,
    pub(crate) viewer: String,
    pub(crate) admin: String,
    pub(crate) peer: Option<String>,
    pub(crate) tls: Option<String>,
    log: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        // Only this child; it is gone already when the test stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// Starts a node with `gateway.toml` in `dir` and waits until it says where it is.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// The same with further flags.
    pub(crate) fn start_with(dir: &Path, flags: &[&str]) -> Self {
        Self::start_as(Path::new(PROGRAM), dir, flags)
    }

    /// The same by another name of the program.
    pub(crate) fn start_as(program: &Path, dir: &Path, flags: &[&str]) -> Self {
        let (ready, log) = (dir.join("data/ready.json"), dir.join("log"));
        let _ = fs::remove_file(&ready);
        let mut child = spawn(program, dir, flags);
        let addresses: serde_json::Value = until("the node is ready", || {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "{ended:?}: {}", fs::read_to_string(&log).unwrap_or_default());
            serde_json::from_slice(&fs::read(&ready).ok()?).ok()
        });
        let address = |name: &str| addresses[name].as_str().map(str::to_owned);
        let (viewer, admin) = (address("viewer").expect("an address"), address("admin").expect("an address"));
        Self { child, viewer, admin, peer: address("peer"), tls: address("tls"), log }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        ask(&self.viewer, "GET", path, &[])
    }

    /// The value of one series.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = String::from_utf8(ask(&self.admin, "GET", "/metrics", &[]).body).expect("text");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = value.ok_or_else(|| format!("{series} in\n{text}")).expect("the series");
        value.parse().expect("a number")
    }

    pub(crate) fn terminate(&self) {
        signal(self.id(), "TERM");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill_hard(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the node has stopped", || self.child.try_wait().expect("a child"))
    }
}

/// Starts the program and does not wait for anything.
pub(crate) fn spawn(program: &Path, dir: &Path, flags: &[&str]) -> Child {
    let errors = fs::File::options().create(true).append(true).open(dir.join("log")).expect("a log");
    let mut command = Command::new(program);
    command.arg("--config").arg(dir.join("gateway.toml")).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    command.spawn().expect("started")
}

/// Sends a signal to a process that a test started.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").arg("-s").arg(name).arg(process.to_string()).status();
    assert!(sent.expect("kill runs").success());
}

/// A response as it came.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find_map(|(field, value)| field.eq_ignore_ascii_case(name).then_some(value))
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(address: &str, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    answer(send(address, method, path, fields))
}

/// The same over TLS, trusting one certificate.
pub(crate) fn ask_securely(address: &str, certificate: CertificateDer<'static>, path: &str) -> Answer {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let name = "edge".try_into().expect("a name");
    let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut stream = rustls::StreamOwned::new(session, connect(address));
    stream.write_all(head("GET", path, &[]).as_bytes()).expect("sent");
    answer(stream)
}

fn answer(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("a response");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head, body: bytes.split_off(end + 4) }
}

pub(crate) fn send(address: &str, method: &str, path: &str, fields: &[(&str, &str)]) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(head(method, path, fields).as_bytes()).expect("sent");
    stream
}

fn connect(address: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Small, so that what a test has not read yet is mostly still at the node.
    socket.set_recv_buffer_size(64 * 1024).expect("set");
    let address: SocketAddr = address.parse().expect("an address");
    socket.connect(&address.into()).expect("connected");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

fn head(method: &str, path: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n{fields}\r\n")
}
