use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// Takes note of what is asked of it.
struct Noted {
    listener: TcpListener,
    steps: Mutex<Vec<&'static str>>,
}

impl Noted {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        Self { listener, steps: Mutex::default() }
    }

    fn step(&self, step: &'static str) {
        self.steps.lock().expect("whole").push(step);
    }

    fn steps(&self) -> Vec<&'static str> {
        self.steps.lock().expect("whole").clone()
    }
}

impl Estate for Noted {
    async fn release(&self) {
        self.step("release");
    }

    fn listening(&self) -> io::Result<Vec<Listening>> {
        let asked = "127.0.0.1:0".parse().expect("an address");
        let socket = self.listener.try_clone()?.into();
        Ok(vec![Listening { asked, bound: self.listener.local_addr()?, socket }])
    }

    async fn take_back(&self) {
        self.step("take back");
    }
}

struct World {
    dir: tempfile::TempDir,
    door: Door,
    old: Noted,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let door = Door::open(&dir.path().join("sock")).expect("open");
        Self { dir, door, old: Noted::new() }
    }

    async fn old(&self, patience: Duration) -> Result<(), TakeoverError> {
        let successor = Successor::at(Some(&self.door), patience).await;
        hand_over(successor, &self.old).await
    }

    async fn meet(&self) -> Predecessor {
        let met = Predecessor::meet(&self.dir.path().join("sock"), PATIENCE).await;
        met.expect("understood").expect("somebody is there")
    }
}

#[tokio::test]
async fn the_very_sockets_change_hands() {
    let world = World::new();
    let mode = std::fs::metadata(world.dir.path().join("sock")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let new = async {
        let mut predecessor = world.meet().await;
        let inheritance = predecessor.release().await.expect("released");
        let bound: Vec<_> = inheritance.left().collect();
        predecessor.ready().await.expect("ours");
        bound
    };
    let (old, bound) = tokio::join!(world.old(PATIENCE), new);
    assert!(old.is_ok(), "{old:?}");
    assert_eq!(bound, [world.old.listener.local_addr().expect("an address")]);
    assert_eq!(world.old.steps(), ["release"]);
}

#[tokio::test]
async fn a_new_process_that_is_ready_at_the_last_moment_still_hears_the_answer() {
    let world = World::new();
    let new = async {
        let mut predecessor = world.meet().await;
        predecessor.release().await.expect("released");
        predecessor.deadline = Instant::now();
        predecessor.ready().await
    };
    let (old, new) = tokio::join!(world.old(PATIENCE), new);
    assert!(matches!((&old, &new), (Ok(()), Ok(()))), "the old one has left: {old:?} {new:?}");
}

#[tokio::test]
async fn a_new_process_notices_that_the_old_one_hung_up() {
    let world = World::new();
    let new = async {
        let mut predecessor = world.meet().await;
        predecessor.release().await.expect("released");
        predecessor.gone().await
    };
    let (old, gone) = tokio::join!(world.old(Duration::from_millis(100)), new);
    assert!(matches!((old, gone), (Err(TakeoverError::Timeout), TakeoverError::Channel(_))));
}

#[tokio::test]
async fn whatever_goes_wrong_before_the_end_leaves_the_old_in_charge() {
    let world = World::new();
    // Gone before it asked for anything, in the middle, with a reason, and too late.
    let gone = async { drop(world.meet().await) };
    assert!(matches!(tokio::join!(world.old(PATIENCE), gone).0, Err(TakeoverError::Channel(_))));
    assert_eq!(world.old.steps(), [""; 0]);
    let middle = async { drop(world.meet().await.release().await.expect("released")) };
    assert!(matches!(tokio::join!(world.old(PATIENCE), middle).0, Err(TakeoverError::Channel(_))));
    let reason = async {
        let mut predecessor = world.meet().await;
        predecessor.release().await.expect("released");
        predecessor.give_up("no disk").await;
    };
    let told = tokio::join!(world.old(PATIENCE), reason).0.expect_err("given up").to_string();
    assert_eq!(told, "the new process gave up: no disk");
    let late = async {
        let mut predecessor = world.meet().await;
        predecessor.release().await.expect("released");
        assert!(predecessor.channel.receive().await.is_err(), "hung up");
        predecessor.ready().await
    };
    let (old, new) = tokio::join!(world.old(Duration::from_millis(100)), late);
    assert!(matches!(old, Err(TakeoverError::Timeout)) && new.is_err());
    assert_eq!(world.old.steps(), ["release", "take back"].repeat(3));
    // It still can be taken over.
    let new = async {
        let mut predecessor = world.meet().await;
        predecessor.release().await.expect("released");
        predecessor.ready().await
    };
    assert!(matches!(tokio::join!(world.old(PATIENCE), new), (Ok(()), Ok(()))));
}

#[tokio::test]
async fn other_versions_and_other_languages_are_refused() {
    let world = World::new();
    let path = world.dir.path().join("sock");
    let stranger = async {
        let mut channel = Channel::connect(&path).await.expect("connects").expect("somebody");
        channel.send(&Message::Hello { version: 99 }, &[]).await.expect("sent");
        channel.receive().await.expect("an answer")
    };
    let (old, answer) = tokio::join!(world.old(PATIENCE), stranger);
    assert!(old.is_err() && matches!(answer, Message::Refused { .. }), "{answer:?}");
    let babble = tokio::task::spawn_blocking({
        let path = path.clone();
        move || {
            let mut stream = std::os::unix::net::UnixStream::connect(path).expect("connects");
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
            stream.read_to_end(&mut Vec::new())
        }
    });
    assert!(world.old(PATIENCE).await.is_err());
    assert!(babble.await.is_ok());
    assert_eq!(world.old.steps(), [""; 0]);
}

#[tokio::test]
async fn nobody_there_is_no_error_and_a_new_door_replaces_the_old() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("sock");
    assert!(Predecessor::meet(&path, PATIENCE).await.expect("no error").is_none());
    let first = Door::open(&path).expect("open");
    let second = Door::open(&path).expect("in its place");
    drop(first);
    let (met, _old) = tokio::join!(Predecessor::meet(&path, PATIENCE), async {
        let mut channel = second.next().await;
        channel.receive().await.expect("hello");
        channel.send(&Message::Welcome, &[]).await.expect("sent");
        channel
    });
    assert!(met.expect("understood").is_some());
    drop(second);
    assert!(
        Predecessor::meet(&path, PATIENCE).await.expect("no error").is_none(),
        "a name that leads nowhere"
    );
}

#[test]
fn a_socket_in_a_queue_is_not_lost() {
    // What the kernel does for us, held down here because everything rests on it: a connection that waits in
    // the queue of a socket is accepted by whoever else holds the socket.
    let first = TcpListener::bind("127.0.0.1:0").expect("bound");
    let second = first.try_clone().expect("cloned");
    let mut viewer = TcpStream::connect(first.local_addr().expect("an address")).expect("connects");
    drop(first);
    let (mut accepted, _) = second.accept().expect("still in the queue");
    viewer.write_all(b"x").expect("sent");
    assert_eq!(accepted.read(&mut [0; 1]).expect("read"), 1);
}
