//! What `bench serve` runs: one of the two servers, until its standard input ends.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use control_api::keys::TokenPrivateKey;
use control_api::{Claims, TokenVerifier};
use front::{AccessSink, Front, FrontConfig, FrontParts};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use crate::film::{DAY, Film};
use crate::node::Node;
use crate::stats::Side;
use crate::{Doing, Fault, Workload};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What a server says when the film is in its memory: one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Where it listens.
    pub address: SocketAddr,
    /// What stands before a segment's path.
    pub prefix: String,
}

/// Serves the film until standard input ends; `tell` gets the [`Ready`] line.
///
/// # Errors
/// The server could not be built, or its line could not be told.
pub async fn serve(side: Side, workload: &Workload, tell: impl Fn(&str)) -> Result<(), Fault> {
    let film = Film::new(workload)?;
    // The edge serves until it is dropped, so it lives as long as this function.
    let (_front, ready) = match side {
        Side::Naive => (None, naive(&film).await?),
        Side::Ours => {
            let (front, ready) = ours(&film).await?;
            (Some(front), ready)
        }
    };
    tell(&serde_json::to_string(&ready).doing("telling the address")?);
    let end = || std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    tokio::task::spawn_blocking(end).await.doing("waiting for the end")?.doing("waiting for the end")?;
    Ok(())
}

/// Access lines are made as always, and dropped where the program would write them.
struct Nowhere;

impl AccessSink for Nowhere {
    fn offer(&self, line: String) -> bool {
        !std::hint::black_box(line).is_empty()
    }
}

async fn ours(film: &Film) -> Result<(Front, Ready), Fault> {
    let node = Node::warm(film).await?;
    let key = TokenPrivateKey::generate("bench".parse().doing("naming a key")?).doing("making a key")?;
    let parts = FrontParts {
        config: FrontConfig { plain: vec![LOOPBACK], ..FrontConfig::default() },
        engine: node.engine,
        verifier: TokenVerifier::new(vec![key.public().doing("making a key")?]),
        clock: Arc::new(|| DAY),
        node: "bench".to_owned(),
        access: Arc::new(Nowhere),
        tls: None,
        debug: None,
    };
    let front = Front::start(parts, &node.registry).doing("starting the edge")?;
    let address = front.plain_addresses().first().copied();
    let address = address.ok_or_else(|| Fault::new("starting the edge", "it has no address"))?;
    Ok((front, Ready { address, prefix: format!("/p/{}/", token(&key)?) }))
}

fn token(key: &TokenPrivateKey) -> Result<String, Fault> {
    let claims = Claims {
        issuer: "weir".to_owned(),
        session: "bench".parse().doing("naming a session")?,
        title: "bench".parse().doing("naming the film")?,
        issued: DAY - 10,
        expires: DAY + 3600,
    };
    key.signer().doing("making a key")?.sign(&claims).doing("signing a token")
}

type Copies = Arc<HashMap<String, Vec<u8>>>;

async fn naive(film: &Film) -> Result<Ready, Fault> {
    let listener = TcpListener::bind(LOOPBACK).await.doing("listening")?;
    let ready = Ready { address: listener.local_addr().doing("listening")?, prefix: "/".to_owned() };
    let entry = |piece: &crate::film::Piece| (format!("/{}", piece.path), piece.bytes.to_vec());
    let copies: Copies = Arc::new(film.pieces.iter().map(entry).collect());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(connection(socket, Arc::clone(&copies)));
        }
    });
    Ok(ready)
}

async fn connection(socket: TcpStream, copies: Copies) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let copy = copies.get(request.uri().path()).cloned();
        let status = if copy.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
        let mut response = Response::new(Full::new(Bytes::from(copy.unwrap_or_default())));
        *response.status_mut() = status;
        std::future::ready(Ok::<_, Infallible>(response))
    });
    // A client that leaves is no event here: the clients report their own faults.
    if socket.set_nodelay(true).is_ok() {
        let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), answer).await;
    }
}
