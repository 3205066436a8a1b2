//! A long-running TCP service in one call.

use wstd::io;
use wstd::iter::AsyncIterator as _;
use wstd::net::{TcpListener, TcpStream};

/// Listens on `address` (for example `0.0.0.0:7000`) and runs `serve` for every connection, many at
/// once. Returns when the pod is asked to stop, so that `main` can finish its work and end with 0.
///
/// # Errors
/// When the address cannot be bound.
///
/// ```no_run
/// use freewheel_guest::service::serve_tcp;
/// use freewheel_guest::{io, net::TcpStream};
///
/// #[freewheel_guest::main]
/// async fn main() -> io::Result<()> {
///     serve_tcp("0.0.0.0:7000", |stream: TcpStream| async move {
///         let (reader, writer) = stream.split();
///         io::copy(reader, writer).await
///     })
///     .await
/// }
/// ```
pub async fn serve_tcp<S, F>(address: &str, serve: S) -> io::Result<()>
where
    S: Fn(TcpStream) -> F + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    let listener = TcpListener::bind(address).await?;
    let mut incoming = listener.incoming();
    while let Some(next) = incoming.next().await {
        let stream = match next {
            Ok(stream) => stream,
            // A stopping pod closes its listeners; accepting again would never end.
            Err(_) => return Ok(()),
        };
        let connection = serve(stream);
        wstd::runtime::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("connection ended: {error}");
            }
        })
        .detach();
    }
    Ok(())
}
