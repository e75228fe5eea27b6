//! What stands behind the seams: one redb file or a DynamoDB table for records, a directory or an S3 bucket for
//! objects, ffmpeg and Shaka Packager for films.

pub mod directory;
pub mod dynamodb;
pub mod payments;
pub mod redb;
pub mod s3;
pub mod tools;
