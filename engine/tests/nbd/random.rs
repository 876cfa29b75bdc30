//! Random bytes, by seed, to the handshake and to the transmission phase: nothing panics, and nothing is kept.

use firn_engine::error::{Error, Kind, Result};
use firn_engine::export::nbd::protocol::handshake::{
    ContextQuery, ExportQuery, client_flags, option, put_option, reply,
};
use firn_engine::export::nbd::protocol::transmission::{EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC, Request};
use firn_engine::export::nbd::{ExportInfo, Exports, Handshake, Step, TlsState};

use crate::client::Client;
use crate::place::{MIB, Place, noise};

/// Two exports that are not there.
struct Invented;

impl Exports for Invented {
    type Opened = ();

    fn names(&self) -> Result<Vec<String>> {
        Ok(vec!["a".into(), "b@c".into()])
    }

    fn open(&self, name: &str) -> Result<(ExportInfo, ())> {
        if !["a", "b@c"].contains(&name) {
            return Err(Error::new(Kind::NotFound, "find export", name));
        }
        let info =
            ExportInfo { name: name.into(), bytes: MIB, read_only: name != "a", description: "x".into() };
        Ok((info, ()))
    }

    fn contexts(&self, name: &str) -> Result<Vec<String>> {
        self.open(name).map(|_| vec!["base:allocation".into(), "qemu:dirty-bitmap:c".into()])
    }
}

/// A handshake that is right but for a few bytes.
fn almost_right(seed: u64) -> Vec<u8> {
    let random = noise(seed, 64);
    let mut bytes = client_flags(u16::from(random[0] % 4)).to_vec();
    for at in 0..usize::from(random[1] % 6) {
        let option = u32::from(random[2 + at] % 13);
        let data = match random[10 + at] % 4 {
            0 => Vec::new(),
            1 => ExportQuery { name: "a", wanted: vec![1, 2, 3] }.encode(),
            2 => ContextQuery { name: "a", queries: vec!["base:", "qemu:dirty-bitmap:c"] }.encode(),
            _ => noise(seed ^ 1, usize::from(random[20 + at])),
        };
        put_option(&mut bytes, option, &data);
    }
    for at in 0..usize::from(random[30] % 4) {
        let place = usize::from(random[31 + at]) % bytes.len();
        bytes[place] ^= random[40 + at];
    }
    bytes
}

#[test]
fn random_handshakes_end_or_go_on_but_never_panic() {
    let mut entered = 0;
    for seed in 0..20_000 {
        let tls = [TlsState::Absent, TlsState::Offered, TlsState::Required]
            [usize::try_from(seed % 3).expect("small")];
        let (mut handshake, _) = Handshake::new(tls);
        let bytes = if seed % 10 == 0 { noise(seed, 500) } else { almost_right(seed) };
        let (mut input, mut out) = (&bytes[..], Vec::new());
        loop {
            let (taken, step) = handshake.advance(input, &mut out, &Invented);
            assert!(taken <= input.len(), "seed {seed}");
            input = &input[taken..];
            match step {
                Step::More if taken == 0 => break,
                Step::More => {}
                Step::StartTls => handshake.established(),
                Step::End => break,
                Step::Enter(_) => {
                    entered += 1;
                    break;
                }
            }
        }
    }
    assert!(entered > 100, "the seeds never came far: {entered}");
}

#[test]
fn random_requests_end_one_connection_and_change_nothing_of_others() {
    let place = Place::new();
    place.volume("a", 16 * MIB);
    let kept = place.volume("kept", 4 * MIB);
    kept.write_at(0, &noise(1, 4 << 20)).expect("written");
    for seed in 0..300 {
        let mut client = Client::greeted(&place);
        let extended = seed % 2 == 1;
        if extended {
            assert_eq!(client.ask(option::EXTENDED_HEADERS, &[]), reply::ACK);
        }
        let mut client = client.go("a");
        let random = noise(seed, 4096);
        let mut bytes = Vec::new();
        for part in random.chunks_exact(32).take(20) {
            let number = |at: usize| u16::from_be_bytes([part[at], part[at + 1]]);
            let request = Request {
                extended,
                flags: number(0) & 0x3f & number(2),
                command: number(4) % 9,
                cookie: u64::from(number(6)),
                offset: u64::from(number(8)) * 512,
                length: u64::from(number(10)) * 512 % 300_000,
            };
            bytes.extend(request.encode());
            // Sometimes what is written follows, sometimes the next thing is taken for it.
            if part[12] % 4 != 0 {
                let payload = usize::try_from(request.payload_bytes()).expect("small");
                bytes.resize(bytes.len() + payload, part[13]);
            }
        }
        if seed % 3 == 0 {
            let magic = if extended { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC };
            bytes.extend(magic.to_be_bytes());
            bytes.extend(&random[..100]);
        }
        client.0.set_nonblocking(true).expect("set");
        // How much of it arrives is of no interest.
        let _ = std::io::Write::write_all(&mut client.0, &bytes);
    }
    place.wait_until(|statistics| statistics.connections_open == 0 && statistics.bytes_in_memory == 0);
    let mut found = vec![0; 4 << 20];
    kept.read_at(0, &mut found).expect("read");
    crate::place::assert_same(&found, &noise(1, 4 << 20), "a volume that nobody was connected to");
}
