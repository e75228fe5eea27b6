use proptest::prelude::*;

use super::*;

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

fn segment(object: u16, offset: u64, len: u32, duration_ms: u32) -> Segment {
    let root = Digest::of(format!("{object} {offset} {len}").as_bytes());
    Segment { object, offset, len, duration_ms, root }
}

fn rendition(id: &str, kind: RenditionKind) -> Rendition {
    let id = id.parse().expect("valid");
    Rendition { id, kind, bandwidth: 0, playlist: None, iframes: None, init: None, media: vec![] }
}

fn object(path: &str, len: u64) -> Object {
    Object { path: path.to_owned(), len }
}

fn tags(names: &[&str]) -> Vec<Tag> {
    names.iter().map(|name| name.parse().expect("valid")).collect()
}

/// A small film with every kind of entry.
fn film() -> Contents {
    let main = Rendition { playlist: Some(segment(0, 0, 900, 0)), ..rendition("main", RenditionKind::Main) };
    let video = Rendition {
        bandwidth: 2_650_000,
        playlist: Some(segment(1, 0, 700, 0)),
        iframes: Some(segment(2, 0, 800, 0)),
        init: Some(segment(3, 0, 800, 0)),
        media: vec![
            segment(3, 968, 700_000, 6000),
            segment(3, 700_968, 16_385, 6000),
            segment(3, 717_353, 9, 17),
        ],
        ..rendition("v720", RenditionKind::Video)
    };
    let captions = Rendition {
        playlist: Some(segment(4, 0, 300, 0)),
        media: vec![segment(5, 0, 16_384, 12_017)],
        ..rendition("s-en", RenditionKind::Subtitles)
    };
    Contents {
        title: "big-buck-bunny".parse().expect("valid"),
        package: PackageId(0x1234_5678_9abc_def0),
        created: 1_700_000_000,
        tags: tags(&["licence-2026", "vendor-acme"]),
        objects: vec![
            object("hls/main.m3u8", 900),
            object("hls/v720.m3u8", 700),
            object("hls/v720-iframes.m3u8", 800),
            object("v720.mp4", 717_362),
            object("hls/s-en.m3u8", 300),
            object("s-en.vtt", 16_384),
        ],
        renditions: vec![main, video, captions],
    }
}

fn index() -> Index {
    Index::new(film()).expect("valid")
}

fn at(index: &Index, path: &str) -> Option<Entry> {
    let path = format!("big-buck-bunny/123456789abcdef0/{path}");
    index.resolve(&SegmentKey::parse(&path).expect("a key").0)
}

#[test]
fn a_key_resolves_to_its_bytes_and_its_digests() {
    let index = index();
    for (path, object, offset, len, groups) in [
        ("main.m3u8", "hls/main.m3u8", 0, 900, None),
        ("v720/index.m3u8", "hls/v720.m3u8", 0, 700, None),
        ("v720/iframes.m3u8", "hls/v720-iframes.m3u8", 0, 800, None),
        ("v720/init.mp4", "v720.mp4", 0, 800, None),
        ("v720/0.m4s", "v720.mp4", 968, 700_000, Some((0, 43 * 32))),
        ("v720/1.m4s", "v720.mp4", 700_968, 16_385, Some((43 * 32, 45 * 32))),
        ("v720/2.m4s", "v720.mp4", 717_353, 9, None),
        ("s-en/0.vtt", "s-en.vtt", 0, 16_384, None),
    ] {
        let entry = at(&index, path).expect(path);
        assert_eq!(entry.object, format!("big-buck-bunny/123456789abcdef0/{object}"), "{path}");
        assert_eq!(entry.segment.range(), ByteRange::new(offset, offset + len), "{path}");
        let want = groups.and_then(|(start, end)| ByteRange::new(start, end));
        assert_eq!(entry.groups_want(), want, "{path}");
    }
    for absent in ["v720/3.m4s", "s-en/iframes.m3u8", "s-en/init.mp4", "v1080/0.m4s"] {
        assert_eq!(at(&index, absent), None, "{absent}");
    }
    let strangers = ["big-buck-bunny/0000000000000001/main.m3u8", "sintel/123456789abcdef0/main.m3u8"];
    for path in strangers {
        assert_eq!(index.resolve(&SegmentKey::parse(path).expect("a key").0), None, "{path}");
    }
}

#[test]
fn resolving_agrees_with_walking() {
    let index = index();
    let mut expected_offset = 0;
    for (key, segment) in index.segments() {
        let entry = index.resolve(&key).expect("every segment has a key");
        assert_eq!((entry.segment, entry.groups_offset), (*segment, expected_offset), "{key}");
        expected_offset += entry.groups_want().map_or(0, ByteRange::len);
    }
    assert_eq!(index.groups_len(), expected_offset);
}

#[test]
fn group_lists_are_found_where_an_entry_says() {
    let bodies: Vec<Vec<u8>> = [5usize, 40_000, 16_384, 16_385, 1].map(|len| vec![len as u8; len]).to_vec();
    let digests: Vec<GroupDigests> = bodies.iter().map(|body| GroupDigests::of(body)).collect();
    let segments: Vec<Segment> = bodies
        .iter()
        .map(|body| Segment { root: Digest::of(body), ..segment(0, 0, body.len() as u32, 0) })
        .collect();
    let main = Rendition { playlist: Some(segments[0]), ..rendition("main", RenditionKind::Main) };
    let video = Rendition { media: segments[1..].to_vec(), ..rendition("v720", RenditionKind::Video) };
    let contents = Contents { objects: vec![object("a", 40_000)], renditions: vec![main, video], ..film() };
    let index = Index::new(contents).expect("valid");

    let lists = index.group_lists(&digests).expect("they fit");
    assert_eq!(lists.len() as u64, index.groups_len());
    for ((key, _), body) in index.segments().zip(&bodies) {
        let entry = index.resolve(&key).expect("present");
        let want = entry.groups_want();
        let list = want.map_or(&[][..], |want| &lists[want.start() as usize..want.end() as usize]);
        let parsed = GroupDigests::parse(entry.segment.len.into(), entry.segment.root, list);
        assert_eq!(parsed, Ok(GroupDigests::of(body)), "{key}");
    }

    let refused =
        |digests: &[GroupDigests]| matches!(index.group_lists(digests), Err(IndexError::GroupLists(_)));
    let mut swapped = digests.clone();
    swapped.swap(1, 3);
    assert!(refused(&digests[..4]) && refused(&swapped));
    assert!(refused(&[digests, vec![GroupDigests::of(b"one more")]].concat()));
}

#[test]
fn what_is_signed_opens_again() {
    let index = index();
    let bytes = index.sign(&key());
    assert_eq!(Index::open(&bytes, &[key().public()]), Ok(index.clone()));
    assert_eq!(index.sign(&key()), bytes, "one index, one key, one file");
    assert_eq!(bytes.len(), codec::encoded_len(index.contents()));
}

/// The committed file is what nodes in the field hold: this code must go on reading it and writing it. The
/// text beside it says what is in it.
#[test]
fn the_format_on_disk_stands() {
    let bytes = index().sign(&key());
    assert_eq!(bytes, include_bytes!("../../tests/golden/index-v2.bin"));
    assert_eq!(dump(&bytes), include_str!("../../tests/golden/index-v2.txt"));
}

/// After a deliberate change of the format: `cargo test -p media -- --ignored golden_index`, then read the
/// difference.
#[test]
#[ignore = "writes the golden files"]
fn write_the_golden_index() {
    let bytes = index().sign(&key());
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::fs::write(golden.join("index-v2.bin"), &bytes).expect("written");
    std::fs::write(golden.join("index-v2.txt"), dump(&bytes)).expect("written");
}

fn dump(bytes: &[u8]) -> String {
    let index = Index::open(bytes, &[key().public()]).expect("ours");
    let mut lines = vec![
        format!("{} bytes, signed by {} (id {})", bytes.len(), key().public(), key().public().id()),
        format!("title {} package {} created {}", index.title, index.package, index.created),
        format!("groups.weir {} bytes", index.groups_len()),
    ];
    lines.extend(index.tags.iter().map(|tag| format!("tag {tag}")));
    for (n, Object { path, len }) in index.objects.iter().enumerate() {
        lines.push(format!("object {n} {path} {len} bytes"));
    }
    for rendition in &index.renditions {
        let (id, kind) = (&rendition.id, rendition.kind.as_str());
        lines.push(format!("rendition {id} {kind} {} bit/s", rendition.bandwidth));
        for (part, Segment { object, offset, len, duration_ms, root }) in rendition.segments() {
            lines.push(format!("  {part}: object {object} at {offset} {len} bytes {duration_ms} ms {root}"));
        }
    }
    lines.join("\n") + "\n"
}

/// Each row breaks one promise.
#[test]
fn contents_that_break_a_promise_are_refused() {
    type Break = fn(&mut Contents);
    let rows: [(Break, &str); 22] = [
        (|c| c.renditions.clear(), "the first rendition, and only that, must be \"main\""),
        (|c| c.renditions.swap(0, 1), "the first rendition"),
        (|c| c.renditions[0].playlist = None, "the first rendition"),
        (|c| c.renditions[0].media = c.renditions[1].media.clone(), "the first rendition"),
        (|c| c.renditions[1].kind = RenditionKind::Main, "the first rendition"),
        (|c| c.renditions[2].id = c.renditions[1].id.clone(), "rendition v720 stands twice in the index"),
        (|c| c.tags.swap(0, 1), "tag licence-2026 does not sort behind the tag before it"),
        (|c| c.tags[0] = c.tags[1].clone(), "tag vendor-acme does not sort behind the tag before it"),
        (|c| c.objects[1].path = c.objects[0].path.clone(), "object \"hls/main.m3u8\" stands twice"),
        (|c| c.objects[0].path = String::new(), "object path \"\" must have 1 to 128 bytes"),
        (|c| c.objects[0].path = "x".repeat(129), "must have 1 to 128 bytes"),
        (|c| c.objects[0].path = "a b".into(), "object path \"a b\" may hold only ASCII letters"),
        (
            |c| c.objects[0].path = "../b".into(),
            "object path \"../b\" has a part that is empty or begins with a dot",
        ),
        (|c| c.objects[0].path = "/b".into(), "has a part that is empty"),
        (|c| c.objects[0].path = "b//c".into(), "has a part that is empty"),
        (|c| c.objects[0].path = "b/".into(), "has a part that is empty"),
        (|c| c.renditions[1].media[2].len = 0, "segment v720/2 has 0 bytes, allowed are 1 to 67108864"),
        (|c| c.renditions[1].media[2].len = MAX_SEGMENT_LEN + 1, "segment v720/2 has 67108865 bytes"),
        (|c| c.renditions[1].media[2].len = 10, "segment v720/2 does not lie inside its object"),
        (|c| c.renditions[1].init = Some(segment(6, 0, 1, 0)), "segment v720/init does not lie inside"),
        (
            |c| c.renditions[2].playlist = Some(segment(4, u64::MAX, 1, 0)),
            "segment s-en/playlist does not lie",
        ),
        (
            |c| c.renditions[1].media = vec![segment(3, 0, 1, 0); 65_536],
            "65536 media segments of a rendition, allowed are 65535",
        ),
    ];
    for (change, expected) in rows {
        let mut contents = film();
        change(&mut contents);
        let error = Index::new(contents).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
    }
}

#[test]
fn more_than_may_be_written_is_refused() {
    let many = |count: u16| -> Vec<Rendition> {
        let name = |n: u16| rendition(&format!("v{n}"), RenditionKind::Video);
        film().renditions[..1].iter().cloned().chain((1..count).map(name)).collect()
    };
    assert!(Index::new(Contents { renditions: many(128), ..film() }).is_ok());
    let refused = Index::new(Contents { renditions: many(129), ..film() });
    assert_eq!(refused, Err(IndexError::TooMany { what: "renditions", count: 129, max: 128 }));

    let mut long = many(4);
    long[1..].iter_mut().for_each(|rendition| rendition.media = vec![segment(0, 0, 1, 0); 60_000]);
    let refused = Index::new(Contents { renditions: long, ..film() });
    assert!(matches!(refused, Err(IndexError::TooLong { len }) if len > MAX_INDEX_LEN), "{refused:?}");

    let lettered = |count: u8| -> Vec<Tag> {
        (0..count).map(|n| char::from(b'a' + n).to_string().parse().expect("valid")).collect()
    };
    assert!(Index::new(Contents { tags: lettered(16), ..film() }).is_ok());
    let refused = Index::new(Contents { tags: lettered(17), ..film() });
    assert_eq!(refused, Err(IndexError::TooMany { what: "tags", count: 17, max: 16 }));

    let objects = (0..=MAX_OBJECTS).map(|n| object(&n.to_string(), 1000)).collect();
    let refused = Index::new(Contents { objects, ..film() });
    assert_eq!(refused, Err(IndexError::TooMany { what: "objects", count: 65_536, max: 65_535 }));
}

/// The envelope is looked at before the signature, the signature before the body.
#[test]
fn envelopes_that_are_not_ours_are_refused() {
    let bytes = index().sign(&key());
    let trusted = [SigningKey::from_seed([1; 32]).public(), key().public()];
    let open = |bytes: &[u8]| Index::open(bytes, &trusted);
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        open(&bytes)
    };
    assert!(open(&bytes).is_ok(), "the second trusted key signed it");
    assert_eq!(open(&[]), Err(IndexError::Magic));
    assert_eq!(with(0, b'w'), Err(IndexError::Magic));
    for other in [0, 1, 3] {
        let refused = with(8, other).expect_err("another version").to_string();
        assert_eq!(refused, format!("index format version {other} is not understood, only 2"));
    }
    assert_eq!(open(&bytes[..9]), Err(IndexError::Truncated("version")));
    assert_eq!(open(&bytes[..17]), Err(IndexError::Truncated("key id")));
    assert_eq!(open(&bytes[..18 + 63]), Err(IndexError::Truncated("signature")));
    assert_eq!(open(&vec![0; MAX_INDEX_LEN + 1]), Err(IndexError::TooLong { len: MAX_INDEX_LEN + 1 }));
    let id = key().public().id();
    assert_eq!(Index::open(&bytes, &[]), Err(IndexError::UnknownKey(id)));
    assert_eq!(Index::open(&bytes, &trusted[..1]), Err(IndexError::UnknownKey(id)));
    assert_eq!(open(&bytes[..bytes.len() - 1]), Err(IndexError::Signature));
    assert_eq!(open(&[&bytes[..], &[0]].concat()), Err(IndexError::Signature));
    // Another trusted key under this one's id proves nothing.
    let mut forged = SigningKey::from_seed([1; 32]).seal(&bytes[18..bytes.len() - 64]);
    forged[10..18].copy_from_slice(&id.0);
    assert_eq!(open(&forged), Err(IndexError::Signature));
}

/// Bodies that the right key signed, but that are no index: the ingest was at fault.
#[test]
fn signed_bodies_that_are_no_index_are_refused() {
    let bytes = index().sign(&key());
    let body = &bytes[18..bytes.len() - 64];
    let open = |body: &[u8]| Index::open(&key().seal(body), &[key().public()]);
    let with = |at: usize, byte: u8| {
        let mut body = body.to_vec();
        body[at] = byte;
        open(&body)
    };
    for end in 0..body.len() {
        assert!(matches!(open(&body[..end]), Err(IndexError::Truncated(_))), "{end}");
    }
    assert_eq!(open(&[body, b"xy"].concat()), Err(IndexError::Trailing(2)));
    assert_eq!(with(1, 0xff), Err(IndexError::NotText("title")));
    assert_eq!(with(1, b'B'), Err(IndexError::Name(NameError::Character { kind: "title", found: 'B' })));
    // title 15, package 8, created 8, then the count of tags; their names take 13 and 12 bytes.
    assert_eq!(with(31, 17), Err(IndexError::TooMany { what: "tags", count: 17, max: 16 }));
    assert_eq!(with(33, b'L'), Err(IndexError::Name(NameError::Character { kind: "tag", found: 'L' })));
    assert_eq!(with(33, b'z'), Err(IndexError::TagOrder("vendor-acme".parse().expect("valid"))));
    assert_eq!(with(58, 0xff), Err(IndexError::Truncated("objects")));
    let renditions = 59 + film().objects.iter().map(|o| 9 + o.path.len()).sum::<usize>();
    assert_eq!(with(renditions, 129), Err(IndexError::TooMany { what: "renditions", count: 129, max: 128 }));
    let kind = renditions + 1 + 5;
    assert_eq!(with(kind, 7), Err(IndexError::Value { field: "rendition kind", value: 7 }));
    assert_eq!(with(kind + 5, 9), Err(IndexError::Value { field: "rendition parts", value: 9 }));
    assert_eq!(with(kind, 1), Err(IndexError::MainNotFirst), "decoded, then checked like any other");
}

#[test]
fn public_keys_have_one_spelling() {
    let text = key().public().to_string();
    assert_eq!(text.parse(), Ok(key().public()));
    for bad in ["", &text[1..], &text.to_uppercase(), &format!("{text}0"), &text.replace('a', "g")] {
        assert_eq!(bad.parse::<PublicKey>(), Err(KeyTextError), "{bad:?}");
    }
    assert_eq!(format!("{:?}", key()), format!("SigningKey(public {text})"));
}

fn any_segment() -> impl Strategy<Value = Segment> {
    (0u16..3, 0u64..1 << 40, 1u32..=MAX_SEGMENT_LEN, any::<u32>(), any::<[u8; 32]>()).prop_map(
        |(object, offset, len, duration_ms, root)| Segment {
            object,
            offset,
            len,
            duration_ms,
            root: Digest(root),
        },
    )
}

fn any_contents() -> impl Strategy<Value = Contents> {
    let part = || prop::option::of(any_segment());
    let kind = prop::sample::select(vec![
        RenditionKind::Video,
        RenditionKind::Audio,
        RenditionKind::Subtitles,
        RenditionKind::Images,
        RenditionKind::TrickPlay,
        RenditionKind::TransportStream,
    ]);
    let media = prop::collection::vec(any_segment(), 0..8);
    let parts = (kind, any::<u32>(), part(), part(), part(), media);
    let renditions = prop::collection::btree_map("[a-l][a-z0-9_-]{0,31}", parts, 0..5);
    let tags = prop::collection::btree_set("[a-z0-9][a-z0-9_-]{0,31}", 0..=MAX_TAGS);
    ("[a-z][a-z0-9_-]{0,63}", any::<u64>(), any::<u64>(), tags, any_segment(), renditions).prop_map(
        |(title, package, created, tags, playlist, renditions)| {
            let main = Rendition { playlist: Some(playlist), ..rendition("main", RenditionKind::Main) };
            let others =
                renditions.into_iter().map(|(id, (kind, bandwidth, playlist, iframes, init, media))| {
                    Rendition { bandwidth, playlist, iframes, init, media, ..rendition(&id, kind) }
                });
            Contents {
                title: title.parse().expect("valid"),
                package: PackageId(package),
                created,
                tags: tags.iter().map(|tag| tag.parse().expect("valid")).collect(),
                objects: vec![object("a", 1 << 41), object("b/c", u64::MAX), object("B.C-d_e", 1 << 42)],
                renditions: std::iter::once(main).chain(others).collect(),
            }
        },
    )
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(contents in any_contents()) {
        let body = codec::encode(&contents);
        prop_assert_eq!(codec::decode(&body), Ok(contents.clone()));
        let index = Index::new(contents).expect("valid");
        prop_assert_eq!(Index::open(&index.sign(&key()), &[key().public()]), Ok(index));
    }

    #[test]
    fn encoding_undoes_decoding(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = codec::encode(&film());
        let at = at.index(body.len());
        body[at] = byte;
        if let Ok(contents) = codec::decode(&body) {
            prop_assert_eq!(codec::encode(&contents), body);
        }
    }

    #[test]
    fn any_changed_byte_is_refused(at in any::<prop::sample::Index>(), change in 1u8..) {
        let mut bytes = index().sign(&key());
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(Index::open(&bytes, &[key().public()]).is_err());
    }

    #[test]
    fn no_signed_body_makes_us_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Index::open(&key().seal(&body), &[key().public()]);
    }
}
