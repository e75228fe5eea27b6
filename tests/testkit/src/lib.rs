//! The small fake world: the real rooms of a node between scripted sources and scripted viewers, in virtual
//! time.
//!
//! What it is for: stories. A [`World`] has a generated, signed [`Package`] and any number of
//! [`ScriptedSource`]s; a [`Node`] is the real store, sourcing and engine over them; a [`Viewing`] is what one
//! viewer does, and [`Played`] what became of it, each byte compared with the package. [`story`] tells it once
//! for each seed under tokio's paused clock, so that a minute of stalls takes no time and happens the same way
//! again.
//!
//! ```
//! use testkit::{Script, Viewing, World, seeds, story};
//!
//! story("one viewer", seeds(2, &[]), |seed| async move {
//!     let world = World::new(seed).source("origin", Script::honest());
//!     let node = world.node().await;
//!     let viewing = Viewing::whole(&world.package.media("v720", 0), &world.package);
//!     assert!(node.play("anna", &viewing).await.is_whole());
//! });
//! ```
//!
//! What it does not do: it opens no socket and no file, and it has no random state: a draw is a function of the
//! seed and of who draws for what ([`Chance`]), so that one more draw somewhere changes no other.
//!
//! What can go wrong: a world that cannot be built is a mistake in the story, and the functions here panic with
//! the reason; none of them is for programs.

mod chance;
mod log;
mod node;
mod package;
mod script;
mod source;
mod story;
mod viewer;
mod world;

pub use chance::Chance;
pub use log::{Event, Log};
pub use node::{Node, NodeConfig};
pub use package::{Package, RenditionShape, Shape};
pub use script::{Behaviour, Fault, Question, Script, Version};
pub use source::{ScriptedSource, Transfer, TransferEnd};
pub use story::{life, seeds, story, story_in_lives};
pub use viewer::{End, Played, Viewing};
pub use world::World;
