use media::GROUP_LEN;
use proptest::prelude::*;

use super::*;

fn data(len: usize) -> Bytes {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn request(bytes: &[u8], start: u64, end: u64) -> Request {
    let key = SegmentKey {
        title: "big-buck-bunny".parse().expect("a title"),
        package: PackageId(255),
        rendition: "v720".parse().expect("a rendition"),
        part: Part::Media(7),
    };
    let range = ByteRange::new(start, end).expect("not empty");
    Request { key, len: bytes.len() as u64, root: Digest::of(bytes), range }
}

/// An honest server's whole answer.
fn answer(bytes: &Bytes, request: &Request) -> Vec<u8> {
    let mut out = answer_head(Status::Found, GroupDigests::of(bytes).as_slice()).to_vec();
    for group in request.groups() {
        let range = group_range(request.len, group);
        out.extend_from_slice(&bytes[range.start as usize..range.end as usize]);
    }
    out
}

/// Feeds an answer in pieces of `step` bytes; returns the verified bytes and whether it was whole.
fn receive(request: &Request, answer: &[u8], step: usize) -> Result<(Vec<u8>, bool), WireError> {
    let (mut reader, mut out) = (Answer::to(request), Vec::new());
    for piece in answer.chunks(step) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(event) = reader.read(&mut input)? {
            if let Event::Bytes(bytes) = event {
                out.extend_from_slice(&bytes);
            }
        }
    }
    Ok((out, reader.is_complete()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Golden: a change here is a change of the protocol and needs a new ALPN name.
#[test]
fn the_bytes_on_the_wire() {
    let request = Request { root: Digest([0xab; 32]), ..request(&data(100_000), 16_384, 20_000) };
    let expected = [
        "01",
        "01",
        "00000000000186a0",
        &"ab".repeat(32),
        "0000000000004000",
        "0000000000004e20",
        "00000000000000ff",
        "03",
        "00000007",
        "0e6269672d6275636b2d62756e6e79",
        "0476373230",
    ];
    assert_eq!(hex(&request.encode()), expected.concat());
    for (code, status) in Status::ALL.into_iter().enumerate() {
        assert_eq!(hex(&answer_head(status, &[])), format!("01{code:02x}"));
    }
    assert_eq!(hex(&answer_head(Status::Found, &[[1; 32]])), "0100", "one group needs no list");
    let list = [[1; 32], [2; 32]];
    assert_eq!(
        hex(&answer_head(Status::Found, &list)),
        format!("0100{}{}", "01".repeat(32), "02".repeat(32))
    );
    assert_eq!(hex(&answer_head(Status::Busy, &list)), "0102");
}

#[test]
fn every_part_survives_the_round_trip() {
    for part in [Part::Playlist, Part::IFrames, Part::Init, Part::Media(0), Part::Media(u32::MAX)] {
        let mut request = request(&data(10), 0, 10);
        request.key.part = part;
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    let mut longest = request(&data(10), 3, 4);
    longest.key.title = "t".repeat(64).parse().expect("a title");
    longest.key.rendition = "r".repeat(32).parse().expect("a rendition");
    assert_eq!(longest.encode().len(), MAX_REQUEST_LEN);
    assert_eq!(Request::decode(&longest.encode()), Ok(longest));
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let good = request(&data(100), 10, 20).encode();
    for cut in 0..good.len() {
        assert_eq!(Request::decode(&good[..cut]), Err(WireError::Short), "{cut}");
    }
    assert_eq!(Request::decode(&[&good[..], b"x"].concat()), Err(WireError::Long));
    let with = |at: usize, byte: u8| {
        let mut bad = good.to_vec();
        bad[at] = byte;
        Request::decode(&bad)
    };
    let (start, part, number, title) = (42, 66, 70, 72);
    assert_eq!(with(0, 2), Err(WireError::Version(2)));
    assert_eq!(with(1, 0), Err(WireError::Operation(0)));
    assert_eq!(with(2, 1), Err(WireError::Range), "longer than an index can say");
    assert_eq!(with(9, 19), Err(WireError::Range), "the range ends past the segment");
    assert_eq!(with(start + 7, 20), Err(WireError::Range), "an empty range");
    assert_eq!(with(part, 4), Err(WireError::Key));
    assert_eq!(with(part, 0), Err(WireError::Key), "a playlist has no number");
    assert_eq!(with(number, 8).map(|request| request.key.part), Ok(Part::Media(8)));
    assert_eq!(with(title, b'.'), Err(WireError::Key));
    assert_eq!(with(title, 0xff), Err(WireError::Key));
}

#[test]
fn ranges_arrive_exactly() {
    for len in [1, 100, 16_384, 16_385, 100_000] {
        let bytes = data(len);
        for (start, end) in [(0, len), (0, 1), (len - 1, len), (len / 3, len / 3 + 1), (len / 3, len)] {
            let request = request(&bytes, start as u64, end as u64);
            let answer = answer(&bytes, &request);
            for step in [1, 1_400, 70_000] {
                let got = receive(&request, &answer, step);
                assert_eq!(got, Ok((bytes[start..end].to_vec(), true)), "{len} {start}-{end} by {step}");
            }
        }
    }
}

#[test]
fn lies_are_noticed_before_a_byte_of_them_is_let_out() {
    let bytes = data(100_000);
    let request = request(&bytes, 20_000, 90_000);
    let honest = answer(&bytes, &request);
    let with = |at: usize| {
        let mut answer = honest.clone();
        answer[at] ^= 1;
        receive(&request, &answer, 1_400)
    };
    let groups_at = 2 + 7 * 32;
    assert_eq!(with(0), Err(WireError::Version(0)));
    assert_eq!(with(2), Err(WireError::Digests));
    assert_eq!(with(groups_at - 1), Err(WireError::Digests));
    assert_eq!(with(groups_at), Err(WireError::Group(1)));
    assert_eq!(with(groups_at + GROUP_LEN as usize), Err(WireError::Group(2)));
    assert_eq!(with(honest.len() - 1), Err(WireError::Group(5)));
    assert_eq!(receive(&request, &[&honest[..], b"x"].concat(), 1_400), Err(WireError::Long));
    assert_eq!(receive(&request, &[1, 9], 2), Err(WireError::Status(9)));
    let (got, whole) = receive(&request, &honest[..groups_at + 20_000], 1_400).expect("honest so far");
    assert_eq!(
        (got.len(), whole),
        (2 * GROUP_LEN as usize - 20_000, false),
        "only the whole group is let out"
    );
}

#[test]
fn anything_but_found_ends_the_answer() {
    let request = request(&data(10), 0, 10);
    for status in Status::ALL.into_iter().skip(1) {
        let mut reader = Answer::to(&request);
        let mut input = answer_head(status, &[]);
        assert_eq!(reader.read(&mut input), Ok(Some(Event::Status(status))));
        assert!(reader.is_complete());
        assert_eq!(reader.read(&mut Bytes::from_static(b"x")), Err(WireError::Long));
    }
}

proptest! {
    #[test]
    fn no_request_makes_us_panic(message in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::decode(&message);
    }

    #[test]
    fn a_changed_request_is_refused_or_means_something_else(at in 0usize..90, bit in 0u8..8) {
        let request = request(&data(100), 10, 20);
        let mut message = request.encode().to_vec();
        let at = at % message.len();
        message[at] ^= 1 << bit;
        if let Ok(other) = Request::decode(&message) {
            prop_assert_ne!(&other, &request);
            prop_assert_eq!(&other.encode()[..], &message[..], "one request, one spelling");
        }
    }

    #[test]
    fn whatever_comes_is_verified(len in 1usize..70_000, at in any::<usize>(), bit in 0u8..8, step in 1usize..20_000) {
        let bytes = data(len);
        let request = request(&bytes, 0, len as u64);
        let mut answer = answer(&bytes, &request);
        let at = at % answer.len();
        answer[at] ^= 1 << bit;
        let mut reader = Answer::to(&request);
        let mut out = Vec::new();
        let mut found = true;
        'fed: for piece in answer.chunks(step) {
            let mut input = Bytes::copy_from_slice(piece);
            loop {
                match reader.read(&mut input) {
                    Ok(Some(Event::Bytes(part))) => out.extend_from_slice(&part),
                    Ok(Some(Event::Status(status))) => found = status == Status::Found,
                    Ok(None) => break,
                    Err(_) => break 'fed,
                }
            }
        }
        prop_assert!(bytes.starts_with(&out));
        prop_assert!(out.len() < len, "a changed answer cannot be whole");
        prop_assert!(found || out.is_empty());
    }
}
