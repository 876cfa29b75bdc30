//! Requests that are not waited for, and clients on the reactor's thread.

use std::sync::mpsc::channel;

use firn_engine::catalog::Tags;
use firn_engine::core::{Request, Response, Target};
use firn_engine::error::{Error, Kind, Result};
use firn_engine::reactor::{LocalClient, Port};
use firn_engine::sys::{DeviceKind, MemorySlice};
use firn_engine::units::VolumeId;
use firn_engine::volume::VolumeRequest;

use crate::place::{MIB, Place, each_device, kind, pattern, read};

#[test]
fn submitted_requests_are_answered_once_each() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = pool.create_volume("a", 16 * MIB, Tags::new()).expect("created");
    let (sender, answers) = channel();
    for at in 0..64_u64 {
        let data = volume.buffer(8192);
        data.copy_in(0, &pattern(at + 1, 0, 8192));
        let sender = sender.clone();
        let write = VolumeRequest::Write { offset: at * 8192, data, fua: at % 8 == 0 };
        volume.submit(write, move |result| sender.send((at, result)).expect("heard"));
    }
    drop(sender);
    let mut done: Vec<u64> =
        answers.iter().map(|(at, result)| result.map(|_| at).expect("written")).collect();
    done.sort_unstable();
    assert_eq!(done, (0..64).collect::<Vec<_>>());
    assert_eq!(read(&volume, 63 * 8192, 8192), pattern(64, 0, 8192));
}

/// Writes every block of a volume and reads it back, all on the reactor's thread.
struct Echo {
    volume: VolumeId,
    next: u64,
    blocks: u64,
    wrong: u64,
    left: u64,
    report: std::sync::mpsc::Sender<u64>,
}

impl LocalClient for Echo {
    fn turn(&mut self, port: &mut Port<'_>) -> bool {
        while self.next < self.blocks.min(32) {
            self.write(port);
        }
        self.left > 0
    }

    fn completed(&mut self, tag: u64, result: Result<Response>, port: &mut Port<'_>) {
        match result.expect("done") {
            Response::Data(data) => {
                self.wrong += u64::from(data.bytes(0, 4096) != pattern(tag + 1, 0, 4096));
                self.left -= 1;
                if self.left == 0 {
                    self.report.send(self.wrong).expect("heard");
                } else if self.next < self.blocks {
                    self.write(port);
                }
            }
            _ => {
                let target = Target::Volume(self.volume);
                port.submit(tag, Request::Read { target, offset: tag * 4096, length: 4096 });
            }
        }
    }
}

impl Echo {
    fn write(&mut self, port: &mut Port<'_>) {
        let data = MemorySlice::new(port.buffers().get(4096), 0, 4096);
        data.copy_in(0, &pattern(self.next + 1, 0, 4096));
        let (volume, offset) = (self.volume, self.next * 4096);
        port.submit(self.next, Request::Write { volume, offset, data, fua: false });
        self.next += 1;
    }
}

#[test]
fn a_local_client_lives_on_the_reactors_thread() {
    each_device(|place| {
        let pool = place.create(64 * MIB);
        let volume = pool.create_volume("a", 16 * MIB, Tags::new()).expect("created").id();
        let (report, heard) = channel();
        pool.attach_client(Box::new(Echo { volume, next: 0, blocks: 4096, wrong: 0, left: 4096, report }));
        assert_eq!(heard.recv().expect("the client ends"), 0);
    });
}

/// Asks for three things at once: a large write, a trim of that and as much behind it, a large write of what is behind.
struct Overtaking {
    volume: VolumeId,
    asked: bool,
    left: u64,
    report: std::sync::mpsc::Sender<()>,
}

impl LocalClient for Overtaking {
    fn turn(&mut self, port: &mut Port<'_>) -> bool {
        let volume = self.volume;
        if !std::mem::replace(&mut self.asked, true) {
            for (tag, offset) in [(0, 0), (2, MIB)] {
                let data = MemorySlice::new(port.buffers().get(1 << 20), 0, 1 << 20);
                data.copy_in(0, &pattern(tag + 1, 0, 1 << 20));
                port.submit(tag, Request::Write { volume, offset, data, fua: false });
                if tag == 0 {
                    port.submit(1, Request::Unmap { volume, offset: 0, length: 2 * MIB, fua: false });
                }
            }
        }
        self.left > 0
    }

    fn completed(&mut self, _: u64, result: Result<Response>, _: &mut Port<'_>) {
        result.expect("done");
        self.left -= 1;
        if self.left == 0 {
            self.report.send(()).expect("heard");
        }
    }
}

#[test]
fn who_waits_for_a_lock_is_not_overtaken() {
    each_device(|place| {
        let pool = place.create(64 * MIB);
        let volume = pool.create_volume("a", 16 * MIB, Tags::new()).expect("created");
        let (report, heard) = channel();
        pool.attach_client(Box::new(Overtaking { volume: volume.id(), asked: false, left: 3, report }));
        heard.recv().expect("the client ends");
        assert_eq!(read(&volume, 0, 1 << 20), vec![0; 1 << 20], "the first write had the lock");
        assert_eq!(read(&volume, MIB, 1 << 20), pattern(3, 0, 1 << 20), "the trim was asked for before it");
    });
}

/// A client with a bug.
struct Panics;

impl LocalClient for Panics {
    fn turn(&mut self, _: &mut Port<'_>) -> bool {
        panic!("a bug on the reactor's thread")
    }

    fn completed(&mut self, _: u64, _: Result<Response>, _: &mut Port<'_>) {}
}

#[test]
fn a_panic_is_an_error_for_those_who_wait_and_loses_nothing() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = pool.create_volume("a", MIB, Tags::new()).expect("created");
    volume.write_at(0, &pattern(1, 0, 4096)).expect("written");
    pool.attach_client(Box::new(Panics));
    let ended = (0..1000).find_map(|_| volume.flush().err());
    let error: Error = ended.expect("the reactor is gone");
    assert_eq!(error.kind(), Kind::Bug, "{error}");
    assert!(error.to_string().contains("a bug on the reactor's thread"), "{error}");
    assert_eq!(kind(pool.close()), Kind::Bug);
    drop(pool);
    assert_eq!(read(&place.open().volume("a").expect("found"), 0, 4096), pattern(1, 0, 4096));
}
