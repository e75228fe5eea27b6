//! A plain HTTP origin on a folder: what any static file server with ranges would be. It counts what it gave,
//! so that a proof can compare the gateway's own figures with the other side's.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::failure::{Context, Outcome};
use crate::http;

/// An idle connection is closed after this.
const IDLE: Duration = Duration::from_secs(60);

/// A running origin. It ends with the toolbox.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    given: Arc<AtomicU64>,
}

impl Origin {
    /// Serves the folder on a free port.
    pub(crate) fn start(folder: &Path) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").doing("the origin's port")?;
        let address = listener.local_addr().doing("the origin's port")?;
        let origin = Self { address, given: Arc::default() };
        let (served, folder) = (origin.clone(), folder.to_owned());
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (served, folder) = (served.clone(), folder.clone());
                // A client that goes away ends its own connection and nothing else.
                std::thread::spawn(move || served.serve(&socket, &folder));
            }
        });
        Ok(origin)
    }

    /// Body bytes sent so far.
    pub(crate) fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    fn serve(&self, socket: &TcpStream, folder: &Path) -> Outcome {
        socket.set_read_timeout(Some(IDLE)).doing("origin")?;
        let mut reader = BufReader::new(socket);
        loop {
            let line = http::read_line(&mut reader)?;
            let headers = http::read_headers(&mut reader)?;
            let range = headers.iter().find(|(name, _)| name == "range").map(|(_, value)| value.as_str());
            self.answer(socket, folder, &line, range)?;
        }
    }

    fn answer(&self, mut socket: &TcpStream, folder: &Path, line: &str, range: Option<&str>) -> Outcome {
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let Some(mut file) = find(folder, target).and_then(|path| File::open(path).ok()) else {
            return send(socket, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        let total = file.metadata().doing(target)?.len();
        let (head, body) = head(range, total);
        send(socket, &head)?;
        let Some((start, len)) = body.filter(|_| method != "HEAD") else { return Ok(()) };
        file.seek(SeekFrom::Start(start)).doing(target)?;
        let sent = std::io::copy(&mut (&mut file).take(len), &mut socket).doing(target)?;
        self.given.fetch_add(sent, Ordering::Relaxed);
        Ok(())
    }
}

/// The answer's head, and start and length of its body.
fn head(range: Option<&str>, total: u64) -> (String, Option<(u64, u64)>) {
    let (status, content_range, body) = match range.map(|range| slice(range, total)) {
        None => ("200 OK", String::new(), Some((0, total))),
        Some(Some((start, len))) => {
            let content_range = format!("Content-Range: bytes {start}-{}/{total}\r\n", start + len - 1);
            ("206 Partial Content", content_range, Some((start, len)))
        }
        Some(None) => ("416 Range Not Satisfiable", format!("Content-Range: bytes */{total}\r\n"), None),
    };
    let length = body.map_or(0, |(_, len)| len);
    (format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{content_range}\r\n"), body)
}

fn send(mut socket: &TcpStream, head: &str) -> Outcome {
    socket.write_all(head.as_bytes()).doing("origin")
}

/// The file of a request path; nothing outside the folder.
fn find(folder: &Path, target: &str) -> Option<PathBuf> {
    let path = Path::new(target.split('?').next()?.strip_prefix('/')?);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    (inside && !target.contains('%')).then(|| folder.join(path)).filter(|path| path.is_file())
}

/// `bytes=a-b`, `bytes=a-` or `bytes=-n` of a file of this length, as start and length.
fn slice(range: &str, total: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (first, last.min(total.checked_sub(1)?)),
        (Ok(first), Err(_)) if last.is_empty() => (first, total.checked_sub(1)?),
        (Err(_), Ok(suffix)) if first.is_empty() && suffix > 0 => {
            (total.saturating_sub(suffix), total.checked_sub(1)?)
        }
        _ => return None,
    };
    (start <= end).then(|| (start, end - start + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-0", Some((0, 1))),
            ("bytes=2-4", Some((2, 3))),
            ("bytes=8-", Some((8, 2))),
            ("bytes=8-99", Some((8, 2))),
            ("bytes=-3", Some((7, 3))),
            ("bytes=-99", Some((0, 10))),
            ("bytes=10-", None),
            ("bytes=-0", None),
            ("bytes=4-2", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
        ] {
            assert_eq!(slice(range, 10), expected, "{range}");
        }
        assert_eq!(slice("bytes=0-", 0), None);
    }

    #[test]
    fn it_serves_files_and_ranges_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("a")).expect("a folder");
        std::fs::write(folder.path().join("a/b"), b"0123456789").expect("written");
        let origin = Origin::start(&folder.path().join("a")).expect("a port");
        let get = |path: &str, headers: &[(&str, &str)]| {
            http::get(&format!("http://{}{path}", origin.address), headers).expect("answered")
        };
        assert_eq!(get("/b", &[]).body, b"0123456789");
        let part = get("/b", &[("Range", "bytes=2-4")]);
        assert_eq!((part.status, part.body.as_slice()), (206, &b"234"[..]));
        assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
        assert_eq!(get("/b", &[("Range", "bytes=99-")]).status, 416);
        for absent in ["/", "/c", "/../a/b", "/./b", "//b"] {
            assert_eq!(get(absent, &[]).status, 404, "{absent}");
        }
        assert_eq!(origin.given(), 13);
    }
}
