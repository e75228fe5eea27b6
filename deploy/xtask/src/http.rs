//! The smallest HTTP/1.1 client that can look at our own programs: one request, one connection, one answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::failure::{Context, Failure, Outcome};

/// The longest silence of a program on this machine that still counts as alive.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// GET with these extra headers.
///
/// # Errors
/// Nobody listens, or the answer is no HTTP.
pub(crate) fn get(url: &str, headers: &[(&str, &str)]) -> Outcome<Answer> {
    send("GET", url, headers)
}

/// A request without a body.
pub(crate) fn send(method: &str, url: &str, headers: &[(&str, &str)]) -> Outcome<Answer> {
    let (host, path) = split(url)?;
    let socket = TcpStream::connect(host).doing(format_args!("connecting to {host}"))?;
    socket.set_read_timeout(Some(PATIENCE)).doing(url)?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    request.push_str("\r\n");
    (&socket).write_all(request.as_bytes()).doing(url)?;
    read_answer(BufReader::new(socket)).map_err(|error| Failure::new(format!("{url}: {error}")))
}

/// GET that must end with 200.
pub(crate) fn fetch(url: &str) -> Outcome<Vec<u8>> {
    let answer = get(url, &[])?;
    if answer.status == 200 {
        return Ok(answer.body);
    }
    let text = String::from_utf8_lossy(&answer.body);
    Err(Failure::new(format!("{url}: status {}: {text:.200}", answer.status)))
}

fn split(url: &str) -> Outcome<(&str, &str)> {
    let rest = url.strip_prefix("http://").ok_or_else(|| Failure::new(format!("{url} is not plain http")))?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    Ok((host, if path.is_empty() { "/" } else { path }))
}

fn read_answer(mut reader: impl BufRead) -> Outcome<Answer> {
    let line = read_line(&mut reader)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| Failure::new(format!("no HTTP status in {line:?}")))?;
    let headers = read_headers(&mut reader)?;
    let mut answer = Answer { status, headers, body: Vec::new() };
    if matches!(status, 204 | 304) {
        return Ok(answer);
    }
    if answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        read_chunks(&mut reader, &mut answer.body)?;
    } else if let Some(length) = answer.header("content-length") {
        let length: usize = length.parse().doing("content-length")?;
        answer.body = vec![0; length];
        reader.read_exact(&mut answer.body).doing("the body ended early")?;
    } else {
        reader.read_to_end(&mut answer.body).doing("reading the body")?;
    }
    Ok(answer)
}

/// The header lines up to the empty one, names in lower case.
pub(crate) fn read_headers(reader: &mut impl BufRead) -> Outcome<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) =
            line.split_once(':').ok_or_else(|| Failure::new(format!("no header: {line:?}")))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> Outcome {
    loop {
        let line = read_line(reader)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16).doing("a chunk's length")?;
        if length == 0 {
            return Ok(());
        }
        let read = reader.by_ref().take(length).read_to_end(body).doing("a chunk")?;
        if read as u64 != length {
            return Err(Failure::new("a chunk ended early"));
        }
        read_line(reader)?;
    }
}

/// One line without its end.
pub(crate) fn read_line(reader: &mut impl BufRead) -> Outcome<String> {
    /// Longer than any line our programs write.
    const LIMIT: u64 = 64 * 1024;
    let mut line = String::new();
    reader.by_ref().take(LIMIT).read_line(&mut line).doing("reading a line")?;
    if line.ends_with('\n') {
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    } else {
        Err(Failure::new("the connection ended within a line"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Outcome<(u16, String)> {
        read_answer(text.as_bytes())
            .map(|answer| (answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    #[test]
    fn bodies_in_their_three_forms() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nhello",
        ] {
            assert_eq!(answer(text).expect(text), (200, "hello".to_owned()));
        }
    }

    #[test]
    fn half_an_answer_is_an_error() {
        for text in [
            "",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
        ] {
            assert!(answer(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn urls() {
        assert_eq!(split("http://a:1/b?c").expect("a url"), ("a:1", "/b?c"));
        assert_eq!(split("http://a:1").expect("a url"), ("a:1", "/"));
        assert!(split("https://a/").is_err());
    }
}
