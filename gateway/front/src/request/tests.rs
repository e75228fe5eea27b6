use http::Request;
use proptest::prelude::*;

use super::*;

const HEAD: usize = 16 * 1024;

fn parts(line: &str, fields: &[(&str, &str)]) -> Parts {
    let words: Vec<&str> = line.split(' ').collect();
    let version = match words[2] {
        "1.0" => Version::HTTP_10,
        "1.1" => Version::HTTP_11,
        "2" => Version::HTTP_2,
        "3" => Version::HTTP_3,
        other => panic!("{other}"),
    };
    let mut request = Request::builder().method(words[0]).uri(words[1]).version(version);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("the library lets it through").into_parts().0
}

#[track_caller]
fn accepts(line: &str, fields: &[(&str, &str)]) {
    assert!(check(&parts(line, fields), false, HEAD).is_ok(), "{line} {fields:?}");
}

#[track_caller]
fn refuses(line: &str, fields: &[(&str, &str)], expected: Refusal) {
    assert_eq!(check(&parts(line, fields), false, HEAD), Err(expected), "{line} {fields:?}");
}

const HOST_FIELD: (&str, &str) = ("host", "edge.example");

#[test]
fn what_players_send_is_accepted() {
    accepts("GET /p/t/x 1.1", &[HOST_FIELD]);
    accepts("HEAD /p/t/x 1.1", &[HOST_FIELD]);
    accepts("OPTIONS /p/t/x 1.1", &[HOST_FIELD]);
    accepts("OPTIONS * 1.1", &[HOST_FIELD]);
    accepts("GET /p/t/x?CMCD=br%3D4871&junk=%zz 1.1", &[HOST_FIELD]);
    accepts("GET /p/t/x 1.1", &[HOST_FIELD, ("content-length", "0")]);
    accepts("GET /p/t/x 1.1", &[HOST_FIELD, ("te", "trailers"), ("connection", "keep-alive, TE")]);
    accepts("GET /p/t/x 1.1", &[HOST_FIELD, ("expect", "100-continue")]);
    accepts("GET /p/t/x 1.0", &[]);
    accepts("GET http://edge.example/p/t/x 1.1", &[HOST_FIELD]);
    accepts("GET http://EDGE.example/p/t/x 1.1", &[HOST_FIELD]);
    accepts("GET https://edge.example/p/t/x 2", &[]);
    accepts("GET https://edge.example/p/t/x 2", &[HOST_FIELD]);
    for host in ["10.0.0.1", "10.0.0.1:8480", "[::1]", "[2001:db8::1]:443", "a_b.example:65535", "localhost"]
    {
        accepts("GET / 1.1", &[("host", host)]);
    }
}

#[test]
fn framing_that_two_servers_could_read_differently_is_refused() {
    let line = "GET /p/t/x 1.1";
    for length in ["1", "00", "0, 0", "18446744073709551616"] {
        refuses(line, &[HOST_FIELD, ("content-length", length)], Refusal::Framing(Framing::Body));
    }
    refuses(
        line,
        &[HOST_FIELD, ("content-length", "0"), ("content-length", "5")],
        Refusal::Framing(Framing::Body),
    );
    for coding in ["chunked", "identity", "identity, chunked", "chunked, chunked", "xchunked", ""] {
        let fields = [HOST_FIELD, ("transfer-encoding", coding)];
        refuses(line, &fields, Refusal::Framing(Framing::TransferEncoding));
    }
    for protocol in ["h2c", "websocket", ""] {
        refuses(line, &[HOST_FIELD, ("upgrade", protocol)], Refusal::Framing(Framing::Upgrade));
    }
    let body = check(&parts("GET https://edge.example/p 2", &[]), true, HEAD);
    assert_eq!(body, Err(Refusal::Framing(Framing::Body)), "an HTTP/2 body without any header");
}

#[test]
fn there_is_exactly_one_valid_host() {
    let line = "GET /p/t/x 1.1";
    refuses(line, &[], Refusal::Framing(Framing::NoHost));
    refuses(line, &[HOST_FIELD, HOST_FIELD], Refusal::Framing(Framing::TwoHosts));
    refuses(line, &[HOST_FIELD, ("host", "other.example")], Refusal::Framing(Framing::TwoHosts));
    for host in [
        "",
        "a b",
        "a/b",
        "a@b",
        "user@edge.example",
        "a:b",
        "a:",
        "a:65536",
        "a:1:2",
        "[::1",
        "[::1]x",
        "[zz]",
        "::1",
        "a,b",
        "edge.example, edge.example",
        "%65dge",
        "a?b",
        "a#b",
        "\u{e4}",
    ] {
        refuses(line, &[("host", host)], Refusal::Framing(Framing::BadHost));
    }
    refuses("GET /p/t/x 1.0", &[("host", "a b")], Refusal::Framing(Framing::BadHost));
    refuses("GET http://other.example/p 1.1", &[HOST_FIELD], Refusal::Framing(Framing::TwoHosts));
    refuses("GET http://edge.example/p 1.1", &[], Refusal::Framing(Framing::NoHost));
    refuses("GET http://u@edge.example/p 1.1", &[], Refusal::Framing(Framing::BadHost));
    refuses("GET https://u@edge.example/p 2", &[], Refusal::Framing(Framing::BadHost));
    refuses(
        "GET https://edge.example/p 2",
        &[("host", "other.example")],
        Refusal::Framing(Framing::TwoHosts),
    );
    refuses("GET /p 2", &[], Refusal::Framing(Framing::NoHost));
}

#[test]
fn only_three_methods() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "PURGE", "PROPFIND", "X"] {
        refuses(&format!("{method} /p/t/x 1.1"), &[HOST_FIELD], Refusal::Method);
    }
    refuses("CONNECT edge.example:443 1.1", &[("host", "edge.example:443")], Refusal::Method);
}

#[test]
fn the_target_is_a_plain_path() {
    for target in [
        "/p/%74/x",
        "/p/t/%2e%2e/x",
        "/p/t/x;a=b",
        "/p/t/x,y",
        "/p/t/\"x\"",
        "/p/t/x\\y",
        "/p/t/x|y",
        "/p/t/x@y",
        "/p/t/x:y",
        "/p/t/x!",
        "/p/t/{x}",
        "/p/t/\u{e9}",
    ] {
        refuses(&format!("GET {target} 1.1"), &[HOST_FIELD], Refusal::Framing(Framing::BadTarget));
    }
    refuses("GET * 1.1", &[HOST_FIELD], Refusal::Framing(Framing::BadTarget));
    refuses("GET ftp://edge.example/p 1.1", &[HOST_FIELD], Refusal::Framing(Framing::BadTarget));
    let long = format!("GET /p/{}/x 1.1", "t".repeat(MAX_PATH));
    refuses(&long, &[HOST_FIELD], Refusal::TargetTooLong);
    refuses("GET /p 3", &[HOST_FIELD], Refusal::Framing(Framing::Version));
}

#[test]
fn the_head_is_bounded() {
    let many = "x".repeat(HEAD - 60);
    accepts("GET /p/t/x 1.1", &[HOST_FIELD, ("x", &many)]);
    let over = "x".repeat(HEAD);
    refuses("GET /p/t/x 1.1", &[HOST_FIELD, ("x", &over)], Refusal::HeadTooLarge);
    refuses(&format!("GET /p?{over} 1.1"), &[HOST_FIELD], Refusal::HeadTooLarge);
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_one_plain_path_of_one_host(host in "[ -~]{0,20}", path in "/[ -~]{0,30}") {
        let Ok(request) = Request::builder().uri(path.as_str()).header("host", host.as_str()).body(()) else {
            return Ok(());
        };
        let (parts, ()) = request.into_parts();
        if check(&parts, false, HEAD).is_ok() {
            prop_assert!(!host.contains(['@', '/', ' ', ',', '%', '?', '#']));
            prop_assert!(!parts.uri.path().contains(['%', '\\', ' ']));
        }
    }
}
