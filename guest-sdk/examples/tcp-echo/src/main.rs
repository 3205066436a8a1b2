//! Sends back what it gets, with nothing but `std::net`: one connection after the other.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

fn echo(mut stream: TcpStream) -> std::io::Result<u64> {
    let mut buffer = [0; 4096];
    let mut total = 0;
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(total);
        }
        stream.write_all(&buffer[..read])?;
        total += read as u64;
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "0.0.0.0:7000".to_owned());
    let listener = TcpListener::bind(&address)?;
    println!("listening on {address}");
    for stream in listener.incoming() {
        // A stopping pod closes its listeners; accepting again would never end.
        let Ok(stream) = stream else { break };
        match echo(stream) {
            Ok(bytes) => println!("echoed {bytes} bytes"),
            Err(error) => eprintln!("connection ended: {error}"),
        }
    }
    println!("stopped");
    Ok(())
}
