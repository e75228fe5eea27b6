//! The golden files of these tests were made by another implementation (CBOR written by hand, ECDSA by
//! OpenSSL), so that they hold us to the standards and not to ourselves.

use coset::cbor::value::Value;
use proptest::prelude::*;

use super::*;
use crate::keys::TokenPrivateKey;

const NOW: u64 = 1_780_000_000;
const GOLDEN: &str = include_str!("../../tests/golden/token.txt");

fn signer() -> TokenSigner {
    let line = include_str!("../../tests/golden/token.key");
    TokenPrivateKey::parse(line).and_then(|key| key.signer()).expect("the golden key")
}

fn verifier() -> TokenVerifier {
    TokenVerifier::new(vec![include_str!("../../tests/golden/token.pub").parse().expect("the golden key")])
}

fn claims() -> Claims {
    Claims {
        issuer: "weir".into(),
        session: "s-golden-1".parse().expect("valid"),
        title: "big-buck-bunny".parse().expect("valid"),
        issued: NOW,
        expires: NOW + 10_000,
    }
}

#[test]
fn the_golden_token_of_another_implementation_is_ours() {
    assert_eq!(verifier().verify(GOLDEN.trim(), NOW), Ok(claims()));
    let hex = include_str!("../../tests/golden/claims.hex");
    let bytes = data_encoding::HEXLOWER.decode(hex.trim().as_bytes()).expect("hex");
    assert_eq!(claims().encode(), Ok(bytes));
}

#[test]
fn what_is_signed_verifies() {
    // Often enough that both halves of the curve's order occur before low_s.
    for _ in 0..32 {
        let token = signer().sign(&claims()).expect("signed");
        assert_eq!(verifier().verify(&token, NOW), Ok(claims()));
    }
    assert!(claims().allows(&"big-buck-bunny".parse().expect("valid")));
    let other = "big-buck".parse().expect("valid");
    assert_eq!(claims().require(&other), Err(TokenError::WrongTitle));
}

#[test]
fn the_longest_names_fit() {
    let line = signer();
    let signer = TokenSigner { id: "k".repeat(KeyId::MAX_LEN).parse().expect("valid"), key: line.key };
    let longest = Claims {
        issuer: "i".repeat(Claims::MAX_ISSUER_LEN),
        session: "s".repeat(48).parse().expect("valid"),
        title: "t".repeat(64).parse().expect("valid"),
        issued: u64::MAX - 1,
        expires: u64::MAX,
    };
    let token = signer.sign(&longest).expect("signed");
    let verifier = TokenVerifier::new(vec![signer.public().expect("public half")]);
    assert_eq!(verifier.verify(&token, u64::MAX - 1), Ok(longest));
    assert_eq!(token.len(), 427);
}

#[test]
fn time_is_checked_with_a_little_grace() {
    let check = |now: u64, expected: Result<Claims, TokenError>| {
        assert_eq!(verifier().verify(GOLDEN.trim(), now), expected, "{now}");
    };
    check(0, Err(TokenError::NotYetValid));
    check(NOW - CLOCK_SKEW - 1, Err(TokenError::NotYetValid));
    check(NOW - CLOCK_SKEW, Ok(claims()));
    check(NOW + 10_000 + CLOCK_SKEW - 1, Ok(claims()));
    check(NOW + 10_000 + CLOCK_SKEW, Err(TokenError::Expired));
    check(u64::MAX, Err(TokenError::Expired));
}

#[test]
fn nobody_signs_nonsense() {
    let sign = |change: fn(&mut Claims)| {
        let mut claims = claims();
        change(&mut claims);
        signer().sign(&claims)
    };
    assert_eq!(sign(|claims| claims.expires = claims.issued), Err(TokenError::Malformed));
    assert_eq!(sign(|claims| claims.issuer.clear()), Err(TokenError::Malformed));
    assert_eq!(sign(|claims| claims.issuer = "i".repeat(33)), Err(TokenError::Malformed));
}

#[test]
fn keys_can_be_changed() {
    let new = TokenPrivateKey::generate("k2".parse().expect("valid")).expect("randomness");
    let token = new.signer().expect("signer").sign(&claims()).expect("signed");
    assert_eq!(verifier().verify(&token, NOW), Err(TokenError::UnknownKey));
    let mut both = verifier();
    both.keys.push(new.public().expect("public half"));
    assert_eq!(both.verify(&token, NOW), Ok(claims()));
    assert_eq!(both.verify(GOLDEN.trim(), NOW), Ok(claims()));
    // The same name over another key is no way in.
    let forged = TokenPrivateKey::generate("golden-1".parse().expect("valid")).expect("randomness");
    let token = forged.signer().expect("signer").sign(&claims()).expect("signed");
    assert_eq!(both.verify(&token, NOW), Err(TokenError::BadSignature));
}

/// Signs whatever envelope and payload a careless or newer issuer could make.
fn signed(mut sign1: CoseSign1, encode: fn(CoseSign1) -> Vec<u8>) -> String {
    let digest = digest::digest(&digest::SHA256, &sign1.tbs_data(&[]));
    let signature = signer().key.sign_digest(&digest).expect("signed");
    sign1.signature = low_s(signature.as_ref()).expect("64 bytes").to_vec();
    BASE64URL_NOPAD.encode(&encode(sign1))
}

fn tagged(sign1: CoseSign1) -> Vec<u8> {
    sign1.to_tagged_vec().expect("encodable")
}

fn ours() -> CoseSign1 {
    envelope(&signer().id, &claims(), Vec::new()).expect("encodable")
}

/// The golden claims with one change, properly signed.
fn with_claims(change: impl FnOnce(&mut Vec<(Value, Value)>)) -> String {
    let payload = claims().encode().expect("encodable");
    let Ok(Value::Map(mut entries)) = coset::cbor::de::from_reader(&payload[..]) else { panic!("a map") };
    change(&mut entries);
    let mut payload = Vec::new();
    coset::cbor::ser::into_writer(&Value::Map(entries), &mut payload).expect("encodable");
    signed(CoseSign1 { payload: Some(payload), ..ours() }, tagged)
}

fn set(key: i64, value: impl Into<Value>) -> impl FnOnce(&mut Vec<(Value, Value)>) {
    let value = value.into();
    move |entries| match entries.iter_mut().find(|(found, _)| *found == Value::from(key)) {
        Some(entry) => entry.1 = value,
        None => entries.push((key.into(), value)),
    }
}

#[test]
fn a_good_signature_does_not_excuse_strange_claims() {
    let check = |token: String, expected: TokenError| {
        assert_eq!(verifier().verify(&token, NOW), Err(expected));
    };
    assert_eq!(verifier().verify(&with_claims(|_| {}), NOW), Ok(claims()), "the tool itself works");
    check(with_claims(set(311, 0)), TokenError::UnknownClaim);
    check(with_claims(set(2, "subject")), TokenError::UnknownClaim);
    check(with_claims(|map| map.push(("text".into(), 1.into()))), TokenError::UnknownClaim);
    check(with_claims(set(310, 2)), TokenError::UnknownClaim);
    check(with_claims(set(313, Value::Array(vec!["POST".into()]))), TokenError::WrongMethod);
    check(with_claims(set(5, NOW - 1)), TokenError::Malformed);
    check(with_claims(set(4, -1)), TokenError::Malformed);
    check(with_claims(set(4, 1.5e9)), TokenError::Malformed);
    check(with_claims(set(7, "text, not bytes")), TokenError::Malformed);
    check(with_claims(set(7, Value::Bytes(b"a/b".to_vec()))), TokenError::Malformed);
    check(with_claims(set(312, "/big-buck-bunny/")), TokenError::Malformed);
    check(with_claims(|map| map.truncate(7)), TokenError::Malformed);
    check(with_claims(|map| map.reverse()), TokenError::Malformed);
    check(with_claims(|map| map.push(map[0].clone())), TokenError::Malformed);
    let catu = |part: i64, rule: i64, text: &str| {
        Value::Map(vec![(part.into(), Value::Map(vec![(rule.into(), text.into())]))])
    };
    for value in [
        catu(3, 0, "/big-buck-bunny/"),
        catu(5, 1, "/big-buck-bunny/"),
        catu(3, 1, "/big-buck-bunny"),
        catu(3, 1, "/"),
        catu(3, 1, "/../"),
        Value::Map(vec![]),
    ] {
        check(with_claims(set(312, value)), TokenError::Malformed);
    }
}

#[test]
fn a_good_signature_does_not_excuse_another_spelling() {
    let check = |token: String, expected: TokenError| {
        assert_eq!(verifier().verify(&token, NOW), Err(expected));
    };
    assert_eq!(verifier().verify(&signed(ours(), tagged), NOW), Ok(claims()), "the tool itself works");
    check(
        signed(ours(), |sign1| coset::CborSerializable::to_vec(sign1).expect("encodable")),
        TokenError::Malformed,
    );
    check(signed(ours(), |sign1| [vec![0xd8, 61], tagged(sign1)].concat()), TokenError::Malformed);
    check(signed(ours(), |sign1| [vec![0xd8], tagged(sign1)].concat()), TokenError::Malformed);
    check(signed(ours(), |sign1| [tagged(sign1), vec![0]].concat()), TokenError::Malformed);
    // The tag in two bytes, the array of indefinite length: the same meaning to a lenient reader.
    check(
        signed(ours(), |sign1| [vec![0xd8, 18], tagged(sign1)[1..].to_vec()].concat()),
        TokenError::Malformed,
    );
    check(
        signed(ours(), |sign1| [vec![0xd2, 0x9f], tagged(sign1)[2..].to_vec(), vec![0xff]].concat()),
        TokenError::Malformed,
    );
    let header = |header: HeaderBuilder| {
        let key_id = signer().id.as_str().as_bytes().to_vec();
        CoseSign1Builder::new().protected(header.key_id(key_id).build()).payload(ours().payload.expect("one"))
    };
    let es256 = || HeaderBuilder::new().algorithm(Algorithm::ES256);
    check(
        signed(header(HeaderBuilder::new().algorithm(Algorithm::ES384)).build(), tagged),
        TokenError::Algorithm,
    );
    check(signed(header(HeaderBuilder::new()).build(), tagged), TokenError::Algorithm);
    check(signed(header(es256().iv(vec![1])).build(), tagged), TokenError::Malformed);
    let critical = es256().add_critical_label(RegisteredLabelWithPrivate::PrivateUse(-70_000));
    check(signed(header(critical).build(), tagged), TokenError::Malformed);
    let loose = HeaderBuilder::new().iv(vec![1]).build();
    check(signed(header(es256()).unprotected(loose).build(), tagged), TokenError::Malformed);
    check(signed(CoseSign1 { payload: None, ..ours() }, tagged), TokenError::Malformed);
}

#[test]
fn the_twin_of_a_signature_is_refused() {
    let bytes = BASE64URL_NOPAD.decode(GOLDEN.trim().as_bytes()).expect("base64url");
    let mut twin = CoseSign1::from_tagged_slice(&bytes).expect("a token");
    let (mut borrow, s) = (0i16, &mut twin.signature[32..]);
    for at in (0..32).rev() {
        let difference = i16::from(ORDER[at]) - i16::from(s[at]) - borrow;
        (s[at], borrow) = (difference.rem_euclid(256) as u8, i16::from(difference < 0));
    }
    let key = &verifier().keys[0].key;
    assert!(key.verify_sig(&twin.tbs_data(&[]), &twin.signature).is_ok(), "the library would accept it");
    let token = BASE64URL_NOPAD.encode(&tagged(twin));
    assert_eq!(verifier().verify(&token, NOW), Err(TokenError::BadSignature));
}

#[test]
fn text_has_one_spelling() {
    let golden = GOLDEN.trim();
    let check = |token: &str, expected: TokenError| {
        assert_eq!(verifier().verify(token, NOW), Err(expected), "{token:?}");
    };
    for text in ["", "a", "=", "AAAA", GOLDEN, &format!("{golden}="), &format!(" {golden}"), "ä"] {
        check(text, TokenError::Malformed);
    }
    check(&golden.replacen('-', "+", 1).replacen('_', "/", 1), TokenError::Malformed);
    check(&golden[..golden.len() - 1], TokenError::Malformed);
    check(&"A".repeat(MAX_TOKEN_LEN + 1), TokenError::TooLong);
    check(&"A".repeat(MAX_TOKEN_LEN), TokenError::Malformed);
}

#[test]
fn loose_trailing_bits_are_refused() {
    // A session id of the right length leaves bits over in the last character.
    let spellings = |claims: &Claims| {
        let token = signer().sign(claims).expect("signed");
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = |c: &u8| format!("{}{}", &token[..token.len() - 1], char::from(*c));
        let accepted = |c: &&u8| verifier().verify(&last(c), NOW).is_ok();
        (token.len() % 4, alphabet.iter().filter(accepted).count())
    };
    let mut lengths = Vec::new();
    for session in ["s", "ss", "sss"] {
        let (length, accepted) = spellings(&Claims { session: session.parse().expect("valid"), ..claims() });
        assert_eq!(accepted, 1, "{session}");
        lengths.push(length);
    }
    lengths.sort_unstable();
    assert_eq!(lengths, [0, 2, 3]);
}

/// A small generator, so that the ten thousand are the same ten thousand every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides
    }
}

#[test]
fn of_ten_thousand_mutations_none_is_accepted() {
    let verifier = verifier();
    let golden = BASE64URL_NOPAD.decode(GOLDEN.trim().as_bytes()).expect("base64url");
    let mut dice = Dice(1);
    let (mut tried, mut signature_judged) = (0, 0);
    while tried < 10_000 {
        let mut bytes = golden.clone();
        for _ in 0..=dice.roll(3) {
            let at = dice.roll(bytes.len());
            match dice.roll(4) {
                0 => bytes[at] ^= 1 << dice.roll(8),
                1 => bytes[at] = dice.roll(256) as u8,
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, dice.roll(256) as u8),
            }
        }
        if bytes == golden {
            continue;
        }
        tried += 1;
        let verdict = verifier.verify(&BASE64URL_NOPAD.encode(&bytes), NOW);
        assert!(verdict.is_err(), "{bytes:02x?}");
        signature_judged += usize::from(verdict == Err(TokenError::BadSignature));
    }
    // The mutations are not all so crude that the outermost parser stops them.
    assert!(signature_judged > 1_000, "{signature_judged}");
}

proptest! {
    #[test]
    fn no_text_makes_us_panic(text in ".{0,80}") {
        prop_assert!(verifier().verify(&text, NOW).is_err());
    }

    #[test]
    fn no_bytes_make_us_panic(bytes in proptest::collection::vec(any::<u8>(), 0..384)) {
        prop_assert!(verifier().verify(&BASE64URL_NOPAD.encode(&bytes), NOW).is_err());
        prop_assert!(Claims::decode(&bytes).is_err());
    }

    #[test]
    fn any_claims_survive(
        issuer in "[a-z.]{1,32}", session in "[A-Za-z0-9][A-Za-z0-9_-]{0,47}", title in "[a-z0-9][a-z0-9_-]{0,63}",
        issued in 0u64..u64::MAX / 2, length in 1u64..u64::MAX / 2,
    ) {
        let claims = Claims {
            issuer, session: session.parse().expect("valid"), title: title.parse().expect("valid"),
            issued, expires: issued + length,
        };
        prop_assert_eq!(Claims::decode(&claims.encode().expect("encodable")), Ok(claims));
    }
}
