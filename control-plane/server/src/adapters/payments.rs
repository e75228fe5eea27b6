//! Those who take the viewers' money.

pub mod roku;
pub mod vouched;
