//! Where to go on a miss: sources ordered by marginal price among the healthy.
