//! What a node promises its viewers, told in virtual time. A story that fails names its seeds; add such a seed to
//! the story's `REGRESSIONS` and it is told every time from then on.

mod crowds;
mod disks;
mod faults;
mod mixed;
mod restarts;
