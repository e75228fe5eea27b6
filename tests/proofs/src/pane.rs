//! A pane of glass between real players and the gateway: everything passes, and every byte of an answer is compared
//! with the film on its way. What it sees is what the players got.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::failure::{Context, Outcome};
use crate::film::Piece;
use crate::viewer::{Ending, Head, Seen, Tally, Wish, expected, read_head};

/// The pane, as long as its value lives.
#[derive(Debug)]
pub(crate) struct Pane {
    pub(crate) address: SocketAddr,
    scene: Arc<Scene>,
    listening: JoinHandle<()>,
}

/// What is before and behind the glass.
#[derive(Debug)]
struct Scene {
    gateway: String,
    /// By their paths below the token.
    pieces: HashMap<String, Piece>,
    tally: Mutex<Tally>,
}

impl Drop for Pane {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Pane {
    /// Stands before the gateway on a port of its own.
    pub(crate) async fn before(gateway: &str, pieces: &[Piece]) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.doing("a pane's port")?;
        let address = listener.local_addr().doing("a pane's port")?;
        let pieces = pieces.iter().map(|piece| (piece.key.clone(), piece.clone())).collect();
        let scene = Arc::new(Scene { gateway: gateway.to_owned(), pieces, tally: Mutex::default() });
        let behind = Arc::clone(&scene);
        let listening = tokio::spawn(async move {
            while let Ok((player, _)) = listener.accept().await {
                let scene = Arc::clone(&behind);
                // A player that leaves ends its own connection and nothing else.
                tokio::spawn(async move { scene.pass(player).await });
            }
        });
        Ok(Self { address, scene, listening })
    }

    /// What all players got so far.
    pub(crate) fn tally(&self) -> Tally {
        self.scene.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Scene {
    async fn pass(&self, mut player: TcpStream) -> std::io::Result<()> {
        let mut gateway = TcpStream::connect(&self.gateway).await?;
        player.set_nodelay(true)?;
        gateway.set_nodelay(true)?;
        let (mut asked, mut answered) = (BytesMut::new(), BytesMut::new());
        while let Some(question) = read_head(&mut player, &mut asked).await {
            gateway.write_all(question.as_bytes()).await?;
            let begun = Instant::now();
            let Some(text) = read_head(&mut gateway, &mut answered).await else {
                self.note(&question, begun, Ending::Unanswered);
                return Ok(());
            };
            let Some(head) = Head::parse(&text) else { return Ok(()) };
            player.write_all(text.as_bytes()).await?;
            let body = Body { gateway: &mut gateway, player: &mut player, buffer: &mut answered };
            let ending = match self.truth(&question, &head) {
                Ok(truth) => body.compare(truth).await,
                Err(ending) => body.skip(head.length.unwrap_or(0), ending).await,
            };
            let over = matches!(ending, Ending::Broken(_) | Ending::Left) || head.closes;
            self.note(&question, begun, ending);
            if over {
                break;
            }
        }
        Ok(())
    }

    /// What the bytes of an answer must be: those of the piece that was asked for, or of the part that it states.
    fn truth(&self, question: &str, head: &Head) -> Result<&[u8], Ending> {
        let piece = self.pieces.get(key(question)).ok_or(Ending::Refused(head.status))?;
        let range = head.range().filter(|(start, end)| start < end && *end <= piece.len());
        expected(head, &Wish { range, ..Wish::whole(piece) })
    }

    fn note(&self, question: &str, begun: Instant, ending: Ending) {
        let Some(piece) = self.pieces.get(key(question)) else { return };
        let seen = Seen { ending, took: begun.elapsed(), ..Seen::nothing() };
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).count(&Wish::whole(piece), &seen);
    }
}

/// What follows `/p/<token>/` in the first line of a question.
fn key(question: &str) -> &str {
    let path = question.split(' ').nth(1).unwrap_or_default();
    path.splitn(4, '/').nth(3).unwrap_or_default()
}

/// A body on its way from the gateway to the player.
struct Body<'a> {
    gateway: &'a mut TcpStream,
    player: &'a mut TcpStream,
    /// What is here already.
    buffer: &'a mut BytesMut,
}

impl Body<'_> {
    async fn compare(mut self, truth: &[u8]) -> Ending {
        let (mut at, mut wrong) = (0, None);
        while at < truth.len() {
            let piece = match self.piece(truth.len() - at).await {
                Ok(piece) => piece,
                Err(ending) => return ending,
            };
            if piece[..] != truth[at..at + piece.len()] {
                wrong.get_or_insert(at);
            }
            at += piece.len();
        }
        wrong.map_or(Ending::Right, |at| Ending::Wrong(format!("from byte {at} of {} on", truth.len())))
    }

    /// Lets pass what is no film.
    async fn skip(mut self, mut length: u64, ending: Ending) -> Ending {
        while length > 0 {
            match self.piece(length as usize).await {
                Ok(piece) => length -= piece.len() as u64,
                Err(ending) => return ending,
            }
        }
        ending
    }

    /// The next bytes, at most so many, when the player has them, too.
    async fn piece(&mut self, most: usize) -> Result<BytesMut, Ending> {
        if self.buffer.is_empty() {
            match self.gateway.read_buf(self.buffer).await {
                Ok(0) => return Err(Ending::Broken("ended".into())),
                Ok(_) => {}
                Err(error) => return Err(Ending::Broken(error.to_string())),
            }
        }
        let piece = self.buffer.split_to(self.buffer.len().min(most));
        self.player.write_all(&piece).await.map(|()| piece).map_err(|_| Ending::Left)
    }
}

#[cfg(test)]
mod tests {
    use testkit::{Behaviour, Fault, Script};

    use super::*;
    use crate::film::Film;
    use crate::origin::Origin;
    use crate::viewer::Viewer;

    #[test]
    fn keys_follow_the_token() {
        assert_eq!(key("GET /p/token/title/0/v720/1.m4s HTTP/1.1\r\n"), "title/0/v720/1.m4s");
        assert_eq!((key("GET / HTTP/1.1\r\n"), key("")), ("", ""));
    }

    /// An origin stands for the gateway: what passes is seen for what it is, and passes.
    #[tokio::test]
    async fn what_passes_is_compared() {
        let film = Film::of_segments(1, vec![100_000]).expect("a film");
        let segment = film.segments().pop().expect("a segment");
        let bytes = film.package.object(&segment.object).expect("its object");
        let path = format!("/{}", segment.object);
        // The pane knows it by what follows two words that stand for `/p/<token>`.
        let key =
            segment.object.split_once('/').and_then(|(_, rest)| rest.split_once('/')).expect("a path").1;
        let piece = Piece { path, key: key.to_owned(), bytes, start: 0, ..segment };
        for (fault, expected) in [(None, "1 right"), (Some(Fault::Flip(50_000)), "1 wrong")] {
            let script = Script::new(move |_, _| Behaviour { rate: u64::MAX, fault, ..Behaviour::default() });
            let origin = Origin::start("origin", 1, &film.package, script).await.expect("a port");
            let pane = Pane::before(&origin.address.to_string(), std::slice::from_ref(&piece)).await;
            let pane = pane.expect("a port");
            let seen = Viewer::new(&pane.address.to_string()).ask(&Wish::part(&piece, 10, 90_000)).await;
            assert_eq!(seen.is_right(), fault.is_none(), "{:?}", seen.ending);
            assert!(pane.tally().to_string().contains(expected), "{}", pane.tally());
        }
    }
}
