//! A program that does what its first argument says. Plain std: it knows nothing of its pod.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let arg = |index: usize| args.get(index).map_or("", String::as_str);
    match arg(1) {
        "nop" => {}
        "fail" => return Err("failed on purpose".into()),
        "exit" => std::process::exit(arg(2).parse()?),
        "panic" => panic!("panicked on purpose"),
        "spin" => loop {
            std::hint::black_box(0);
        },
        "work" => {
            let until = Duration::from_millis(arg(2).parse()?);
            let start = Instant::now();
            while start.elapsed() < until {
                std::hint::black_box(0);
            }
        }
        "begin" => {
            print!("{}", arg(2));
            std::io::stdout().flush()?;
            // Whoever reads this knows that the other one is written.
            eprintln!("ready");
            std::thread::sleep(Duration::from_secs(3600));
        }
        "sleep" => std::thread::sleep(Duration::from_secs(3600)),
        "finish" => {
            println!("ready");
            while !std::fs::exists(arg(2))? {
                std::thread::sleep(Duration::from_millis(10));
            }
            println!("finished");
            std::process::exit(arg(3).parse()?);
        }
        "eat" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&all);
            }
        }
        "env" => println!("{} {:?}", std::env::var(arg(2))?, &args[2..]),
        "lines" => {
            for line in 0..arg(2).parse::<u32>()? {
                println!("line {line:06} {}", "x".repeat(80));
            }
        }
        "cat" => print!("{}", std::fs::read_to_string(arg(2))?),
        "pass" => drop(std::io::copy(&mut std::io::stdin(), &mut std::io::stdout())?),
        "put" => std::fs::write(arg(2), arg(3))?,
        "echo" => echo(arg(2))?,
        "stubborn" => {
            let listener = TcpListener::bind(arg(2))?;
            println!("ready");
            listener.incoming().for_each(|_| println!("accepted or not"));
        }
        // Says half of what there is to say to each client, and then this happens.
        "half" => {
            let listener = TcpListener::bind(arg(2))?;
            println!("ready");
            let (mut stream, _) = listener.accept()?;
            stream.write_all(b"half")?;
            match arg(3) {
                "panic" => panic!("panicked on purpose"),
                "exit" => std::process::exit(0),
                _ => std::thread::sleep(Duration::from_secs(3600)),
            }
        }
        "ask" => println!("{}", ask(arg(2), arg(3))?),
        "rounds" => rounds(arg(2), arg(3).parse()?)?,
        "connect" => match TcpStream::connect(arg(2)) {
            Ok(_) => println!("connected"),
            Err(error) => println!("{:?}", error.kind()),
        },
        "udp-echo" => {
            let socket = UdpSocket::bind(arg(2))?;
            println!("ready");
            let mut buffer = [0; 1500];
            loop {
                let (count, from) = socket.recv_from(&mut buffer)?;
                socket.send_to(&buffer[..count], from)?;
            }
        }
        "udp-ask" => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(arg(2))?;
            socket.send(arg(3).as_bytes())?;
            let mut buffer = [0; 1500];
            let count = socket.recv(&mut buffer)?;
            println!("{}", String::from_utf8_lossy(&buffer[..count]));
        }
        other => return Err(format!("no such thing: {other}").into()),
    }
    Ok(())
}

fn echo(address: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("ready");
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (mut stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                println!("leaving: {:?}", error.kind());
                return Ok(());
            }
        };
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
    }
}

fn ask(address: &str, text: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Round trips of one byte; prints the median in microseconds.
fn rounds(address: &str, count: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let mut times = Vec::with_capacity(count);
    let mut byte = [7];
    for _ in 0..count {
        let start = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        times.push(start.elapsed().as_micros());
    }
    times.sort_unstable();
    println!("{}", times[count / 2]);
    Ok(())
}
