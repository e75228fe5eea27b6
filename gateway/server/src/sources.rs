//! The places this node buys bytes from, behind one trait. A source answers one question, exactly: may I have
//! these bytes? It does not retry, does not decide and keeps nothing: that is `sourcing`.

mod answer;
mod cloudfront_sign;
mod directory;
mod http;
mod refusal;
mod s3;
mod shelf;

pub(crate) use self::answer::is_object_name;
pub(crate) use self::cloudfront_sign::{KeyRing, Signer};
pub(crate) use self::directory::DirectorySource;
pub(crate) use self::http::{HttpOptions, HttpSource, Signing, tls};
pub(crate) use self::refusal::{Complaints, refusals};
pub(crate) use self::s3::{S3Options, S3Source};
pub(crate) use self::shelf::Shelf;

#[cfg(test)]
mod contract;
