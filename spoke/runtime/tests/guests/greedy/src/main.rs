//! A program that makes the host hold more than it may, in the way that its first argument names.

use std::net::{TcpListener, TcpStream, UdpSocket};

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, Scheme,
};
use wasip2::io::poll::poll;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let arg = |index: usize| args.get(index).map_or("", String::as_str);
    let number = |index: usize| arg(index).parse::<usize>();
    match arg(1) {
        "fields" => fields(number(2)?),
        "clones" => clones(number(2)?),
        "turnover" => turnover(number(2)?),
        "bodies" => bodies(number(2)?),
        "burst" => burst(number(2)?),
        "requests" => requests(number(2)?),
        "words" => words()?,
        "views" => views(number(2)?),
        "emptied" => emptied(number(2)?),
        "trailers" => trailers(number(2)?),
        "waits" => waits(number(2)?),
        "crowded" => crowded(),
        "uploads" => uploads(arg(2), number(3)?),
        "half-upload" => half_upload(arg(2)),
        "files" => files(arg(2)),
        "overwrite" => overwrite(),
        "paths" => paths(),
        "streams" => streams(number(2)?),
        "lists" => lists(number(2)?),
        "unasked" => unasked(number(2)?),
        "asked" => asked(number(2)?),
        "datagrams" => datagrams(number(2)?)?,
        "handles" => handles(number(2)?),
        "greet" => greet(arg(2))?,
        "meet" => meet(arg(2))?,
        "stay" => {}
        other => return Err(format!("no such thing: {other}").into()),
    }
    println!("done");
    if arg(args.len() - 1) == "stay" {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
    Ok(())
}

/// Sets of fields of 100 kB each.
fn fields(count: usize) {
    let value = vec![b'y'; 100_000];
    let mut keep = Vec::new();
    for _ in 0..count {
        let fields = Fields::new();
        fields.append("x", &value).unwrap();
        // As a part of a response they are no less there.
        keep.push(OutgoingResponse::new(fields));
    }
    println!("{} are kept", keep.len());
}

/// Copies of one set of fields.
fn clones(count: usize) {
    let fields = Fields::new();
    fields.append("x", &vec![b'y'; 100_000]).unwrap();
    let mut keep = Vec::new();
    for _ in 0..count {
        let copy = fields.clone();
        copy.append("z", b"now it is one of its own").unwrap();
        keep.push(copy);
    }
    println!("{} are kept", keep.len());
}

/// Fields that are let go at once.
fn turnover(count: usize) {
    let value = vec![b'y'; 100_000];
    for _ in 0..count {
        let fields = Fields::new();
        fields.append("x", &value).unwrap();
        drop(OutgoingResponse::new(fields));
    }
}

/// Bodies that nobody ever reads.
fn bodies(count: usize) {
    let mut keep = Vec::new();
    let piece = vec![7; 64 << 10];
    for _ in 0..count {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().unwrap();
        let stream = body.write().unwrap();
        while let Ok(room @ 1..) = stream.check_write() {
            let room = usize::try_from(room).unwrap().min(piece.len());
            stream.write(&piece[..room]).unwrap();
        }
        keep.push((response, stream, body));
    }
    println!("{} are kept", keep.len());
}

/// Bodies that are begun within a moment, and then nothing for an hour.
fn burst(count: usize) {
    std::thread::sleep(std::time::Duration::from_millis(20));
    let body = |_| {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().unwrap();
        (response, body)
    };
    let keep: Vec<_> = (0..count).map(body).collect();
    std::thread::sleep(std::time::Duration::from_secs(3600));
    println!("{} are kept", keep.len());
}

/// Requests with long words that are never sent.
fn requests(count: usize) {
    let word = "A".repeat(60_000);
    let path = format!("/{word}");
    let mut keep = Vec::new();
    for _ in 0..count {
        let request = OutgoingRequest::new(Fields::new());
        // Again and again in the same place it is one word.
        for _ in 0..3 {
            request.set_method(&Method::Other(word.clone())).unwrap();
        }
        request.set_authority(Some(&word)).unwrap();
        request.set_path_with_query(Some(&path)).unwrap();
        keep.push(request);
    }
    println!("{} are kept", keep.len());
}

/// Words that are too long for any request.
fn words() -> Result<(), &'static str> {
    let word = "A".repeat(3 << 20);
    let request = OutgoingRequest::new(Fields::new());
    let refused = [
        request.set_method(&Method::Other(word.clone())),
        request.set_authority(Some(&word)),
        request.set_path_with_query(Some(&word)),
    ];
    println!("{refused:?}");
    if refused.iter().all(Result::is_err) { Ok(()) } else { Err("one was taken") }
}

/// Fields of responses that are gone.
fn views(count: usize) {
    let entries = [("x".to_owned(), vec![b'y'; 100_000])];
    let view = |_| OutgoingResponse::new(Fields::from_list(&entries).unwrap()).headers();
    let keep: Vec<_> = (0..count).map(view).collect();
    println!("{} are kept", keep.len());
}

/// Sets that had many fields and have none any more.
fn emptied(count: usize) {
    let values = vec![Vec::new(); 3000];
    let mut keep = Vec::new();
    for _ in 0..count {
        let fields = Fields::new();
        for _ in 0..2 {
            fields.set("x", &values).unwrap();
            fields.delete("x").unwrap();
        }
        fields.append("y", &[b'y'; 8000]).unwrap();
        fields.delete("y").unwrap();
        keep.push(fields);
    }
    println!("{} are kept", keep.len());
}

/// Bodies that end with large trailers, in responses that are never sent.
fn trailers(count: usize) {
    let entries = [("x".to_owned(), vec![b'y'; 100_000])];
    let mut keep = Vec::new();
    for _ in 0..count {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().unwrap();
        let ended = OutgoingBody::finish(body, Some(Fields::from_list(&entries).unwrap()));
        if let Err(why) = ended {
            println!("refused: {why:?}");
            return;
        }
        keep.push(response);
    }
    println!("{} are kept", keep.len());
}

/// Waits for one thing, many times over.
fn waits(times: usize) {
    let never = wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX / 2);
    println!("waiting");
    poll(&vec![&never; times]);
}

/// Requests whose bodies and answers do not end; it begins with them when somebody comes.
fn uploads(authority: &str, count: usize) {
    let listener = TcpListener::bind("0.0.0.0:7000").unwrap();
    println!("ready");
    listener.accept().unwrap();
    let mut keep = Vec::new();
    for _ in 0..count {
        let request = OutgoingRequest::new(Fields::new());
        request.set_scheme(Some(&Scheme::Http)).unwrap();
        request.set_authority(Some(authority)).unwrap();
        request.set_path_with_query(Some("/endless")).unwrap();
        let upload = request.body().unwrap();
        let future = outgoing_handler::handle(request, None).unwrap();
        future.subscribe().block();
        let answer = future.get().unwrap().unwrap().unwrap();
        keep.push((upload, answer.consume().unwrap()));
    }
    // The host looks at what there is while the guest runs.
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_millis(100) {
        std::hint::black_box(&keep);
    }
    println!("kept");
    std::thread::sleep(std::time::Duration::from_secs(3600));
}

/// Sends a half of a body when somebody comes, and fails when somebody comes again.
fn half_upload(authority: &str) {
    let listener = TcpListener::bind("0.0.0.0:7000").unwrap();
    println!("ready");
    listener.accept().unwrap();
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Post).unwrap();
    request.set_scheme(Some(&Scheme::Http)).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some("/")).unwrap();
    let upload = request.body().unwrap();
    let stream = upload.write().unwrap();
    let _answer = outgoing_handler::handle(request, None).unwrap();
    stream.blocking_write_and_flush(b"half of it").unwrap();
    listener.accept().unwrap();
    panic!("trapped on purpose");
}

/// Accepts a connection and has a place for one of its three handles.
fn crowded() {
    let network = instance_network();
    let listener = create_tcp_socket(IpAddressFamily::Ipv4).unwrap();
    let address = Ipv4SocketAddress { port: 7000, address: (0, 0, 0, 0) };
    listener.start_bind(&network, IpSocketAddress::Ipv4(address)).unwrap();
    listener.finish_bind().unwrap();
    listener.start_listen().unwrap();
    listener.finish_listen().unwrap();
    let client = listener.subscribe();
    println!("listening");
    client.block();
    let mut sockets: Vec<_> =
        std::iter::from_fn(|| create_tcp_socket(IpAddressFamily::Ipv4).ok()).collect();
    sockets.pop();
    let accepted = listener.accept().map(|_| ());
    drop(sockets);
    println!("accepted: {accepted:?}");
    std::thread::sleep(std::time::Duration::from_secs(3600));
}

/// As many files as there may be; a stream keeps its file open as well.
fn files(dir: &str) {
    let (dir, _) = get_directories().into_iter().find(|(_, name)| name == dir).unwrap();
    let mut keep = Vec::new();
    let why = loop {
        match open(&dir, &format!("f{}", keep.len())) {
            Ok(file) => keep.push(file.read_via_stream(0).unwrap()),
            Err(error) => break error,
        }
    };
    println!("opened {}: {why:?}", keep.len());
    drop(keep);
    println!("again: {}", open(&dir, "again").is_ok());
}

fn open(
    dir: &Descriptor,
    name: &str,
) -> Result<Descriptor, wasip2::filesystem::types::ErrorCode> {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    dir.open_at(PathFlags::empty(), name, OpenFlags::CREATE, flags)
}

/// Asks for 3 MiB to be written by one call, when somebody comes.
fn overwrite() {
    let (dir, _) = get_directories().remove(0);
    let (file, bytes) = (open(&dir, "much").unwrap(), vec![7; 3 << 20]);
    let listener = TcpListener::bind("0.0.0.0:7000").unwrap();
    println!("ready");
    listener.accept().unwrap();
    println!("wrote {:?}", file.write(&bytes, 0));
}

/// Calls with a path that no kernel takes.
fn paths() {
    let (dir, _) = get_directories().remove(0);
    let long = "a/".repeat(2049);
    let (as_is, now) = (PathFlags::empty(), NewTimestamp::Now);
    let said = [
        dir.create_directory_at(&long).err(),
        dir.stat_at(as_is, &long).err(),
        dir.set_times_at(as_is, &long, now, now).err(),
        dir.link_at(as_is, &long, &dir, "b").err(),
        dir.link_at(as_is, "b", &dir, &long).err(),
        open(&dir, &long).err(),
        dir.readlink_at(&long).err(),
        dir.remove_directory_at(&long).err(),
        dir.rename_at(&long, &dir, "b").err(),
        dir.rename_at("b", &dir, &long).err(),
        dir.symlink_at(&long, "b").err(),
        dir.symlink_at("b", &long).err(),
        dir.unlink_file_at(&long).err(),
        dir.metadata_hash_at(as_is, &long).err(),
    ];
    for why in said {
        println!("{}", why.map_or("taken", |why| why.name()));
    }
}

/// Streams of one file, each of which has read ahead.
fn streams(count: usize) {
    let (dir, _) = get_directories().remove(0);
    let file = open(&dir, "large").unwrap();
    file.set_size(1 << 20).unwrap();
    let mut keep = Vec::new();
    for _ in 0..count {
        let stream = file.read_via_stream(0).unwrap();
        stream.read(64 << 10).unwrap();
        keep.push(stream);
    }
    println!("{} are kept", keep.len());
}

/// Lists of one directory with many names, of which none is read.
fn lists(names: usize) {
    let (dir, _) = get_directories().remove(0);
    for name in 0..names {
        drop(open(&dir, &format!("a-name-of-some-length-{name}")).unwrap());
    }
    let mut keep = Vec::new();
    let why = loop {
        match dir.read_directory() {
            Ok(list) => keep.push(list),
            Err(error) => break error,
        }
    };
    println!("{} are kept: {}", keep.len(), why.name());
    drop(keep);
    println!("again: {}", dir.read_directory().is_ok());
}

fn connect(port: u16) -> wasip2::io::streams::OutputStream {
    let network = instance_network();
    let socket = create_tcp_socket(IpAddressFamily::Ipv4).unwrap();
    let address = Ipv4SocketAddress { port, address: (127, 0, 0, 1) };
    socket.start_connect(&network, IpSocketAddress::Ipv4(address)).unwrap();
    let (input, output) = socket.finish_connect().unwrap();
    std::mem::forget((socket, input));
    output
}

/// Writes to itself without asking whether there is room.
fn unasked(bytes: usize) {
    let _listener = TcpListener::bind("127.0.0.1:7000").unwrap();
    let stream = connect(7000);
    println!("writing");
    for _ in 0..bytes >> 20 {
        stream.write(&vec![7; 1 << 20]).unwrap();
    }
}

/// Asks for room on many connections that nobody reads, and uses all of it.
fn asked(connections: usize) {
    let listener = TcpListener::bind("127.0.0.1:7000").unwrap();
    let both: Vec<_> =
        (0..connections).map(|_| (connect(7000), listener.accept().unwrap())).collect();
    let streams: Vec<_> = both.iter().map(|(stream, _)| stream).collect();
    let promised: Vec<_> = streams.iter().map(|stream| stream.check_write().unwrap()).collect();
    let mut sum = 0;
    for (stream, room) in streams.iter().zip(promised) {
        stream.write(&vec![7; usize::try_from(room).unwrap()]).unwrap();
        sum += room;
    }
    println!("{sum} bytes wait");
}

/// Fills ports that nobody reads.
fn datagrams(ports: usize) -> std::io::Result<()> {
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    let mut keep = Vec::new();
    for _ in 0..ports {
        let port = UdpSocket::bind("127.0.0.1:0")?;
        for _ in 0..20 {
            sender.send_to(&[7; 60_000], port.local_addr()?)?;
        }
        keep.push(port);
    }
    println!("{} ports are full", keep.len());
    Ok(())
}

/// Handles that hold nothing.
fn handles(count: usize) {
    let keep: Vec<_> = (0..count).map(|_| Fields::new()).collect();
    // The host looks at what there is while the guest runs.
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_millis(500) {
        std::hint::black_box(&keep);
    }
}

/// Takes one connection, and says how both ends look.
fn greet(address: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let datagrams = UdpSocket::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let (stream, peer) = listener.accept()?;
    println!("from {} to {}", peer.ip(), stream.local_addr()?.ip());
    let mut buffer = [0; 10];
    let (count, from) = datagrams.recv_from(&mut buffer)?;
    datagrams.send_to(&buffer[..count], from)?;
    println!("datagram from {}", from.ip());
    Ok(())
}

fn meet(address: &str) -> std::io::Result<()> {
    let stream = TcpStream::connect(address)?;
    println!("met {}", stream.peer_addr()?);
    let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.send_to(b"hello", address)?;
    let mut buffer = [0; 10];
    let (count, from) = socket.recv_from(&mut buffer)?;
    println!("{} bytes from {from}", count);
    Ok(())
}
