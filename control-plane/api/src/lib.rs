//! The contract between the planes: what the control plane says and the gateway, the command line and the
//! player understand.
//!
//! - [`token`]: the playback token in a viewer's URL, signed by the control plane, checked offline by nodes;
//! - [`keys`]: the one-line text files that hold the keys of tokens, indexes and operators;
//! - [`explain`]: what a node says about a path to its operator;
//! - [`region`]: who is in a region and may have what from whom, signed by the control plane;
//! - [`rest`]: the JSON of the HTTP API, with [`problem`] for its errors and [`name`] for its identifiers.
//!
//! Values only. There is no socket, no file and no clock here: whoever verifies a token brings the time.
//! What a stranger sends is parsed into a value that can only make sense, or refused with a reason from a
//! closed list. The one thing that is not a pure function is ECDSA, which draws its nonce inside the
//! cryptographic library; [`token`] says why that is allowed to stay there.

pub mod explain;
pub mod keys;
pub mod name;
pub mod problem;
pub mod region;
pub mod rest;
pub mod token;

pub use name::{
    Currency, DeviceId, EntitlementId, KeyId, KeyName, Language, NodeId, PartnerId, RegionId, SessionId,
    ViewerId,
};
pub use problem::{Problem, ProblemCode};
pub use token::{Claims, TokenError, TokenKey, TokenSigner, TokenVerifier};
