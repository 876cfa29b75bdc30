//! Serves a new pool with one empty volume over NBD, until its standard input ends: something to measure and to try
//! clients on.
//!
//! `nbd_server DIRECTORY SOCKET GIB [fill]`; with `fill` every block of the volume is written first.

use std::io::Read;
use std::path::PathBuf;

use firn_engine::catalog::Tags;
use firn_engine::export::nbd::{Listen, Server, ServerOptions};
use firn_engine::pool::{CreateOptions, Pool, PoolOptions};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, socket, gib, fill @ ..] = &arguments[..] else {
        eprintln!("nbd_server DIRECTORY SOCKET GIB [fill]");
        std::process::exit(2);
    };
    let bytes = gib.parse::<u64>().expect("a number of GiB") << 30;
    let create = CreateOptions { bytes: Some(3 * bytes), preallocate: true, ..CreateOptions::default() };
    let path = PathBuf::from(directory).join("pool");
    let pool = Pool::create(&path, &create, &PoolOptions::default()).expect("the pool is created");
    let volume = pool.create_volume("volume", bytes, Tags::new()).expect("the volume is created");
    if !fill.is_empty() {
        let part: Vec<u8> = (0..1_u64 << 17)
            .flat_map(|word| (word | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
            .collect();
        (0..bytes >> 20).for_each(|at| volume.write_at(at << 20, &part).expect("written"));
        pool.checkpoint().expect("a checkpoint");
    }
    let listen = vec![Listen::Unix(socket.into())];
    let server = Server::start(&pool, &ServerOptions { listen, ..ServerOptions::default() })
        .expect("the server starts");
    println!("{}", server.addresses()[0].uri("volume"));
    std::io::stdin().read_to_end(&mut Vec::new()).expect("standard input");
    println!("{:#?}", server.statistics());
    println!("{:#?}", pool.status().expect("open").statistics);
    server.stop();
    pool.close().expect("closed");
}
