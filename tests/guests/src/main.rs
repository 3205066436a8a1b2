//! One module that does whatever a test asks for: `kit VERB ARGUMENTS…`, with std, and the SDK for its exit codes.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use freewheel_guest::Exit;

fn main() -> Exit {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["exit", code] => std::process::exit(code.parse().unwrap_or(2)),
        ["return", code] => return Exit::from(code.parse().unwrap_or(2)),
        ["say", text @ ..] => {
            println!("{}", text.join(" "));
            Ok(())
        }
        ["complain", text @ ..] => {
            eprintln!("{}", text.join(" "));
            Ok(())
        }
        ["panic"] => panic!("asked to panic"),
        ["spin"] => spin(),
        ["eat", mebibytes] => eat(mebibytes),
        ["env"] => env(),
        ["cat", file] => std::fs::read_to_string(file).map(|text| print!("{text}")),
        ["pass"] => std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).map(drop),
        ["write", file, text] => std::fs::write(file, text),
        ["fill", file, mebibytes] => fill(file, mebibytes),
        ["ls", folder] => ls(folder),
        ["wait", file] => wait(file),
        ["watch", file] => watch(file),
        ["keep", file, text] => keep(file, text),
        ["count", file, code] => return count(file, code),
        ["tick"] => tick(),
        ["sleep", seconds] => {
            std::thread::sleep(Duration::from_secs(seconds.parse().unwrap_or(1)));
            Ok(())
        }
        ["greet", address, text] => greet(address, text),
        ["ask", address, text] => ask(address, text),
        ["ask-until", address, text] => ask_until(address, text),
        ["ask-each", addresses @ ..] => ask_each(addresses),
        ["try", address] => try_once(address),
        ["udp-echo", address] => udp_echo(address),
        ["udp-ask", address, text] => udp_ask(address, text),
        ["lookup-until", count, name] => lookup_until(count, name),
        other => Err(std::io::Error::other(format!("no such verb: {other:?}"))),
    };
    match done {
        Ok(()) => Exit::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            Exit::FAILURE
        }
    }
}

fn spin() -> std::io::Result<()> {
    println!("spinning");
    let mut x = 1u64;
    loop {
        x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

fn eat(mebibytes: &str) -> std::io::Result<()> {
    let many: usize = mebibytes.parse().map_err(std::io::Error::other)?;
    let mut eaten = Vec::new();
    for count in 1..=many {
        eaten.push(std::hint::black_box(vec![1u8; 1 << 20]));
        println!("ate {count} MiB");
    }
    Ok(())
}

fn env() -> std::io::Result<()> {
    for (name, value) in std::env::vars() {
        println!("{name}={value}");
    }
    println!("end of env");
    Ok(())
}

fn ls(folder: &str) -> std::io::Result<()> {
    let mut names: Vec<String> = std::fs::read_dir(folder)?
        .map(|e| Ok(e?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    println!("{}", names.join(" "));
    Ok(())
}

/// Prints a file as soon as it is there.
fn wait(file: &str) -> std::io::Result<()> {
    loop {
        match std::fs::read_to_string(file) {
            Ok(text) if !text.is_empty() => {
                println!("{text}");
                return Ok(());
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Prints a file, and again whenever it has changed.
fn watch(file: &str) -> std::io::Result<()> {
    let mut seen = String::new();
    loop {
        let text = std::fs::read_to_string(file)?;
        if text != seen {
            println!("{text}");
            seen = text;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Writes a file and stays.
fn keep(file: &str, text: &str) -> std::io::Result<()> {
    std::fs::write(file, text)?;
    println!("wrote {text}");
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Writes so much into a file and stays.
fn fill(file: &str, mebibytes: &str) -> std::io::Result<()> {
    let many: usize = mebibytes.parse().map_err(std::io::Error::other)?;
    let mut out = std::fs::File::create(file)?;
    for _ in 0..many * 256 {
        out.write_all(&[1; 4096])?;
    }
    println!("wrote {many} MiB");
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Counts its runs in a file, says which one this is, and ends with the code.
fn count(file: &str, code: &str) -> Exit {
    let before = std::fs::read_to_string(file).ok().and_then(|text| text.parse::<u32>().ok());
    let run = before.unwrap_or(0) + 1;
    if let Err(error) = std::fs::write(file, run.to_string()) {
        eprintln!("{error}");
    }
    println!("run {run}");
    Exit::from(code.parse().unwrap_or(2))
}

fn tick() -> std::io::Result<()> {
    for count in 1u64.. {
        println!("tick {count}");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Sends the text to everybody who connects.
fn greet(address: &str, text: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listening on {address}");
    for stream in listener.incoming() {
        // A stopping pod closes its listeners; accepting again would never end.
        let Ok(mut stream) = stream else { break };
        stream.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Connects, sends the text, ends its side, prints what comes back.
fn ask(address: &str, text: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(text.replace("\\r\\n", "\r\n").as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("answer: {answer}");
    Ok(())
}

/// As `ask`, again and again until somebody answers.
fn ask_until(address: &str, text: &str) -> std::io::Result<()> {
    loop {
        match ask(address, text) {
            Ok(()) => return Ok(()),
            Err(error) => println!("not yet: {error}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Sends every datagram back to where it came from.
fn udp_echo(address: &str) -> std::io::Result<()> {
    let socket = std::net::UdpSocket::bind(address)?;
    println!("listening on {address}");
    let mut buffer = [0; 2048];
    loop {
        let (read, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..read], from)?;
    }
}

/// Sends a datagram every 200 ms until one comes back; datagrams may get lost.
fn udp_ask(address: &str, text: &str) -> std::io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    socket.set_nonblocking(true)?;
    socket.connect(address)?;
    let mut buffer = [0; 2048];
    loop {
        match socket.send(text.as_bytes()) {
            Ok(_) => {}
            Err(error) => println!("not yet: {error}"),
        }
        std::thread::sleep(Duration::from_millis(200));
        if let Ok(read) = socket.recv(&mut buffer) {
            println!("datagram: {}", String::from_utf8_lossy(&buffer[..read]));
            return Ok(());
        }
    }
}

/// Asks each address until it answers, and tells who said what.
fn ask_each(addresses: &[&str]) -> std::io::Result<()> {
    for address in addresses {
        loop {
            match hear(address) {
                Ok(text) => break println!("{address} says {text}"),
                Err(error) => println!("{address}: not yet: {error}"),
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    println!("end of answers");
    Ok(())
}

fn hear(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() { Err(std::io::Error::other("no words")) } else { Ok(answer) }
}

/// Connects once and tells how that ended, and after how long.
fn try_once(address: &str) -> std::io::Result<()> {
    let start = Instant::now();
    let told = match TcpStream::connect(address) {
        Ok(_) => "connected".to_owned(),
        Err(error) => format!("{:?}: {error}", error.kind()),
    };
    println!("{address} after {} ms: {told}", start.elapsed().as_millis());
    Ok(())
}

/// Looks a name up until it has that many addresses, and prints them.
fn lookup_until(count: &str, name: &str) -> std::io::Result<()> {
    let count: usize = count.parse().map_err(std::io::Error::other)?;
    loop {
        match (name, 0).to_socket_addrs() {
            Ok(found) => {
                let mut found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
                found.sort();
                println!("{name} is {found:?}");
                if found.len() == count {
                    return Ok(());
                }
            }
            Err(error) => println!("{name}: not yet: {error}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
