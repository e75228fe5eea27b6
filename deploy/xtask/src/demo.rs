//! placeholder
use crate::failure::Outcome;
pub(crate) fn build() -> Outcome {
    Ok(())
}
pub(crate) fn short_proof() -> Outcome {
    Ok(())
}
