//! Guests that misbehave, each in a way of its own: `zoo WAY`. What they hold they hold until they are ended, and each
//! says when it has got as far as it gets.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip2::http::types::Fields;

/// More than anybody may have of anything.
const PLENTY: usize = 1 << 20;

fn main() {
    let way = std::env::args().nth(1).unwrap_or_default();
    match way.as_str() {
        "fields" => fields(),
        "files" => files(),
        "handles" => handles(),
        "pipes" => pipes(),
        "drained" => drained(),
        "udp" => udp(),
        "away" => away(),
        "eat" => eat(),
        "spin" => spin(),
        "log" => log(),
        "swap" => swap(),
        "shuffle" => shuffle(),
        "peek" => peek(),
        "churn" => churn(),
        "endless" => endless(),
        "hang" | "probed" => hold(&way, vec![()]),
        "nod" => {}
        other => panic!("no such way: {other:?}"),
    }
}

fn hold<T>(what: &str, held: Vec<T>) -> ! {
    assert!(!held.is_empty(), "nothing to hold");
    println!("{what}: holding {}", held.len());
    loop {
        std::thread::sleep(Duration::from_secs(5));
        std::hint::black_box(&held);
    }
}

/// Fields of 100 kB each, of which the guest itself keeps only a handle.
fn fields() {
    let big = vec![b'x'; 100_000];
    let mut held = Vec::new();
    while held.len() < PLENTY {
        let fields = Fields::new();
        if fields.append("x-big", &big).is_err() {
            break;
        }
        held.push(fields);
    }
    hold("fields", held);
}

fn files() {
    let mut held = Vec::new();
    while held.len() < PLENTY {
        match std::fs::File::create(format!("/v/f{}", held.len() % 100)) {
            Ok(file) => held.push(file),
            Err(_) => break,
        }
    }
    hold("files", held);
}

/// Fills the table of handles.
fn handles() {
    println!("handles: begins");
    let mut held = Vec::new();
    while held.len() < PLENTY {
        held.push(subscribe_duration(1 << 50));
    }
    hold("handles", held);
}

/// Connections to itself, all full and never read.
fn pipes() {
    let listener = TcpListener::bind("127.0.0.1:7000").expect("a port");
    let mut held = Vec::new();
    while held.len() < PLENTY {
        let Ok(mut near) = TcpStream::connect("127.0.0.1:7000") else { break };
        let Ok((far, _)) = listener.accept() else { break };
        if near.set_nonblocking(true).is_err() {
            break;
        }
        while near.write(&[9; 65_536]).is_ok_and(|written| 0 < written) {}
        held.push((near, far));
    }
    hold("pipes", held);
}

/// Sockets that were full and were read: of single bytes, of one large piece but for its last byte, and of datagrams.
fn drained() {
    let listener = TcpListener::bind("127.0.0.1:7000").expect("a port");
    let (mut held, mut ports) = (Vec::new(), Vec::new());
    while held.len() < 500 {
        let Ok(mut near) = TcpStream::connect("127.0.0.1:7000") else { break };
        let Ok((mut far, _)) = listener.accept() else { break };
        if near.set_nonblocking(true).and_then(|()| far.set_nonblocking(true)).is_err() {
            break;
        }
        let mut buffer = [0; 65_536];
        for _ in 0..1000 {
            let _ = near.write(&[9]);
        }
        while far.read(&mut buffer).is_ok_and(|read| 0 < read) {}
        let mut left = near.write(&[9; 65_536]).unwrap_or_default().saturating_sub(1);
        while 0 < left {
            match far.read(&mut buffer[..left]) {
                Ok(read @ 1..) => left -= read,
                _ => break,
            }
        }
        held.push((near, far));
    }
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    while ports.len() < 100 {
        let Ok(port) = UdpSocket::bind("127.0.0.1:0") else { break };
        let (Ok(address), Ok(())) = (port.local_addr(), port.set_nonblocking(true)) else { break };
        for _ in 0..1000 {
            let _ = sender.send_to(&[1], address);
        }
        while port.recv(&mut [0; 16]).is_ok() {}
        ports.push(port);
    }
    println!("drained: {} ports", ports.len());
    hold("drained", held);
}

/// Datagrams to sockets that nobody reads.
fn udp() {
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut held = Vec::new();
    while held.len() < 4096 {
        match UdpSocket::bind("127.0.0.1:0") {
            Ok(socket) => held.push(socket),
            Err(_) => break,
        }
    }
    println!("udp: sending");
    loop {
        for socket in &held {
            if let Ok(address) = socket.local_addr() {
                let _ = sender.send_to(&[1; 1000], address);
            }
        }
    }
}

/// More datagrams to a pod on another device than the way there carries.
fn away() {
    let sender = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    println!("away: sending");
    loop {
        let _ = sender.connect("sink:70");
        for _ in 0..1000 {
            let _ = sender.send(&[1; 40]);
            let _ = sender.send(&[1; 1000]);
        }
    }
}

fn eat() {
    println!("eat: begins");
    let mut eaten = Vec::new();
    loop {
        eaten.push(std::hint::black_box(vec![7u8; 1 << 20]));
    }
}

fn spin() {
    println!("spin: begins");
    let mut x = 1u64;
    loop {
        x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

fn log() {
    let line = "x".repeat(1000);
    for count in 1u64.. {
        println!("log: {count} {line}");
    }
}

fn directory(path: &str) -> Option<Descriptor> {
    get_directories().into_iter().find(|(_, name)| name == path).map(|(descriptor, _)| descriptor)
}

/// Puts links that lead out of the volume in the place of a directory that another mount shows, and tells what is to be
/// seen then; ends after a while, so that it is mounted anew.
fn swap() {
    let volume = directory("/v").expect("a volume at /v");
    for round in 0..100 {
        for target in ["../../../../identity", "../../..", "/", "/proc/self"] {
            let _ = volume.remove_directory_at("s");
            let _ = volume.unlink_file_at("s");
            let _ = volume.symlink_at(target, "s");
            for (path, follow) in [("/v/s", true), ("/s", false)] {
                let seen = std::fs::read_dir(path).map(|entries| {
                    entries.flatten().map(|entry| entry.file_name()).collect::<Vec<_>>()
                });
                if seen.as_ref().is_ok_and(|seen| !seen.is_empty()) {
                    println!("swap: ESCAPED by {target} at {path}, following {follow}: {seen:?}");
                }
            }
            let flags = PathFlags::SYMLINK_FOLLOW;
            if volume.open_at(flags, "s/key.der", OpenFlags::empty(), DescriptorFlags::READ).is_ok()
            {
                println!("swap: ESCAPED to the key by {target}");
            }
        }
        if round == 0 {
            println!("swap: one round");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    std::process::exit(3);
}

/// Puts a link that leads out of the volume in the place of a directory with a file, and the directory back, for ever.
/// Other containers mount both.
fn shuffle() {
    let volume = directory("/v").expect("a volume at /v");
    std::fs::create_dir_all("/v/s").expect("a directory");
    // Whoever mounts it before there is a file has it made as a directory.
    let _ = volume.remove_directory_at("s/key.der");
    std::fs::write("/v/s/key.der", "own").expect("a file");
    volume.symlink_at("../../../../identity", "out").expect("a link");
    println!("shuffle: begins");
    for (from, to) in [("s", "in"), ("out", "s"), ("s", "out"), ("in", "s")].iter().cycle() {
        // Whoever is mounted in between has made what was not there.
        while volume.rename_at(from, &volume, to).is_err() {
            let _ = volume.remove_directory_at("s/key.der");
            let _ = volume.remove_directory_at("s");
        }
        std::thread::sleep(Duration::from_millis(if *from == "in" { 5 } else { 1 }));
    }
}

/// What its mounts show of such a volume, once.
fn peek() {
    let names: Vec<_> = std::fs::read_dir("/p").map_or_else(
        |_| Vec::new(),
        |entries| entries.flatten().map(|entry| entry.file_name()).collect(),
    );
    let file = std::fs::read("/k/key.der");
    if names.iter().any(|name| name != "key.der")
        || file.as_ref().is_ok_and(|bytes| bytes != b"own")
    {
        println!("peek: ESCAPED: {names:?} {file:?}");
    }
    println!("peek: {} of its own", names.len() + usize::from(file.is_ok()));
    std::process::exit(3);
}

/// Connections that come and go as fast as they can.
fn churn() {
    println!("churn: begins");
    let listener = TcpListener::bind("127.0.0.1:7000").expect("a port");
    loop {
        let Ok(near) = TcpStream::connect("127.0.0.1:7000") else { continue };
        let Ok((mut far, _)) = listener.accept() else { continue };
        let _ = far.write_all(b"x");
        drop(near);
        let _ = far.read(&mut [0; 16]);
    }
}

/// Writes to everybody who connects, without an end.
fn endless() {
    let listener = TcpListener::bind("0.0.0.0:8080").expect("a port");
    listener.set_nonblocking(true).expect("a listener that does not wait");
    println!("endless: listening");
    let mut held = Vec::new();
    loop {
        if let Ok((stream, _)) = listener.accept() {
            let _ = stream.set_nonblocking(true);
            held.push(stream);
        }
        for stream in &mut held {
            while stream.write(&[b'y'; 65_536]).is_ok_and(|written| 0 < written) {}
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
