//! One module that does whatever a test asks for: `kit VERB ARGUMENTS…`, std only.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["exit", code] => return ExitCode::from(code.parse().unwrap_or(2)),
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
        ["write", file, text] => std::fs::write(file, text),
        ["ls", folder] => ls(folder),
        ["tick"] => tick(),
        ["sleep", seconds] => {
            std::thread::sleep(Duration::from_secs(seconds.parse().unwrap_or(1)));
            Ok(())
        }
        ["greet", address, text] => greet(address, text),
        ["ask", address, text] => ask(address, text),
        ["ask-until", address, text] => ask_until(address, text),
        other => Err(std::io::Error::other(format!("no such verb: {other:?}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
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
