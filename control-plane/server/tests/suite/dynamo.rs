//! Servers that speak DynamoDB's protocol, and a wire that loses answers.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use control_plane::adapters::dynamodb::{DynamoOptions, DynamoRecords};
use control_plane::entropy::SystemEntropy;
use control_plane::seams::Entropy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::stores;
use crate::support::{skip_until, toolbox, until};

/// A server, ended when dropped.
pub(crate) struct Dynamo {
    pub(crate) address: String,
    _server: Process,
}

enum Process {
    Ministack(#[expect(dead_code, reason = "dropping it ends it")] stores::Server),
    Local(#[expect(dead_code, reason = "dropping it ends it")] tokio::process::Child),
}

pub(crate) fn entropy() -> Arc<dyn Entropy> {
    Arc::new(SystemEntropy::new())
}

impl Dynamo {
    /// A new table of this name.
    pub(crate) async fn table(&self, name: &str) -> Arc<DynamoRecords> {
        let records = DynamoRecords::new(self.options(name, None), entropy()).await;
        assert_eq!(records.create_table().await, Ok(true));
        Arc::new(records)
    }

    /// How to reach the table, perhaps by a detour.
    pub(crate) fn options(&self, table: &str, detour: Option<&str>) -> DynamoOptions {
        DynamoOptions {
            table: table.to_owned(),
            region: Some("us-east-1".to_owned()),
            endpoint_url: Some(format!("http://{}", detour.unwrap_or(&self.address))),
            credentials: Some(("test".to_owned(), "test".to_owned())),
            attempts: 4,
            attempt_timeout: Duration::from_secs(20),
        }
    }
}

/// The server of the S3 tests speaks DynamoDB, too.
pub(crate) async fn ministack() -> Option<Dynamo> {
    let server = stores::server().await?;
    Some(Dynamo { address: server.address().to_owned(), _server: Process::Ministack(server) })
}

/// AWS's own server, where its licence was accepted by fetching it.
pub(crate) async fn dynamodb_local() -> Option<Dynamo> {
    let home = toolbox().join("dynamodb-local");
    if !home.join("DynamoDBLocal.jar").is_file() {
        skip_until("AWS's DynamoDB Local is not in target/tools", "cargo xtask setup --dynamodb-local");
        return None;
    }
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let mut command = tokio::process::Command::new("java");
    command.arg(format!("-Djava.library.path={}", home.join("DynamoDBLocal_lib").display()));
    command.arg("-jar").arg(home.join("DynamoDBLocal.jar"));
    command
        .args(["-inMemory", "-sharedDb", "-disableTelemetry", "-port", &port.to_string()])
        .kill_on_drop(true);
    // It leaves a file where it is started.
    command.current_dir(&home);
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("java");
    let address = format!("127.0.0.1:{port}");
    until("DynamoDB Local", async || TcpStream::connect(&address).await.ok()).await;
    Some(Dynamo { address, _server: Process::Local(process) })
}

const QUIET: u8 = 0;
const ARMED: u8 = 1;
const LOST: u8 = 2;

/// A wire that can swallow an answer: the server did what it was asked, and the client hears nothing.
pub(crate) struct Lossy {
    pub(crate) address: String,
    mood: Arc<AtomicU8>,
}

impl Lossy {
    pub(crate) async fn before(server: &Dynamo) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let mood = Arc::new(AtomicU8::new(QUIET));
        let (target, shared) = (server.address.clone(), Arc::clone(&mood));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target.clone(), Arc::clone(&shared)));
            }
        });
        Self { address, mood }
    }

    pub(crate) fn lose_next_answer(&self) {
        self.mood.store(ARMED, Ordering::SeqCst);
    }

    pub(crate) fn lost_it(&self) -> bool {
        self.mood.swap(QUIET, Ordering::SeqCst) == LOST
    }
}

/// Carries bytes both ways; an answer that begins while the wire is armed is dropped with the connection.
async fn carry(mut client: TcpStream, target: String, mood: Arc<AtomicU8>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (mut from_server, mut to_server) = server.into_split();
    let (mut from_client, mut to_client) = client.split();
    let back = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let Ok(len) = from_server.read(&mut buffer).await else { return };
            let armed = mood.compare_exchange(ARMED, LOST, Ordering::SeqCst, Ordering::SeqCst).is_ok();
            if len == 0 || armed || to_client.write_all(&buffer[..len]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = back => {}
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
    }
}
