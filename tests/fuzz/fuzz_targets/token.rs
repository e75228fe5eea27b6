//! The playback token in a viewer's URL: once as text, once as claims that the right key signed, so that the
//! parser behind the signature is reached as well.
#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use control_api::keys::TokenPrivateKey;
use control_api::token::TokenVerifier;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use libfuzzer_sys::fuzz_target;

/// A key made for this and used for nothing else.
const KEY: &str = include_str!("../token.key");
/// The one token that the key ever signed.
const SEED: &str = include_str!("../corpus/token/valid");
const NOW: u64 = 1_800_000_000;

struct World {
    key: TokenPrivateKey,
    pair: EcdsaKeyPair,
    verifier: TokenVerifier,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let key = TokenPrivateKey::parse(KEY).expect("a key");
    let pkcs8 = KEY.split_whitespace().last().and_then(|text| BASE64.decode(text.as_bytes()).ok());
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8.expect("base64"));
    let verifier = TokenVerifier::new(vec![key.public().expect("a public half")]);
    World { key, pair: pair.expect("a key"), verifier }
});

fuzz_target!(|bytes: &[u8]| {
    let world = &*WORLD;
    if let Ok(text) = std::str::from_utf8(bytes)
        && world.verifier.verify(text, NOW).is_ok()
    {
        assert_eq!(text, SEED, "nobody but the key can sign, and a token has one spelling");
    }
    let Ok(claims) = world.verifier.verify(&world.signed(bytes), NOW) else { return };
    let again = world.key.signer().expect("a key").sign(&claims).expect("claims that were accepted");
    assert_eq!(world.verifier.verify(&again, NOW), Ok(claims));
});

impl World {
    /// A `COSE_Sign1` of these claims (RFC 9052 section 4.4), written by hand so that they may be anything.
    fn signed(&self, claims: &[u8]) -> String {
        let id = self.key.id().as_str().as_bytes();
        let protected = [&[0xa2, 0x01, 0x26, 0x04][..], &byte_string(id)].concat();
        let signed_parts = [byte_string(&protected), byte_string(b""), byte_string(claims)].concat();
        let to_be_signed = [&[0x84, 0x6a][..], b"Signature1", &signed_parts].concat();
        let signature = self.low_signature(&to_be_signed);
        let head = [0xd2, 0x84];
        let parts =
            [&head[..], &byte_string(&protected), &[0xa0], &byte_string(claims), &byte_string(&signature)];
        BASE64URL_NOPAD.encode(&parts.concat())
    }

    /// Of the two signatures of a message only the one with the low `s` is accepted: sign until it comes.
    fn low_signature(&self, message: &[u8]) -> Vec<u8> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message);
        loop {
            let signature = self.pair.sign_digest(&digest).expect("a signature").as_ref().to_vec();
            if signature[32] < 0x7f {
                return signature;
            }
        }
    }
}

/// A CBOR byte string with the shortest length prefix.
fn byte_string(bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len();
    let head = match len {
        0..24 => vec![0x40 | len as u8],
        24..256 => vec![0x58, len as u8],
        _ => vec![0x59, (len >> 8) as u8, len as u8],
    };
    [head, bytes.to_vec()].concat()
}
