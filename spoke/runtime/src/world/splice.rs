//! `splice` of `wasi:io/streams`: what one stream reads is written to another without the guest seeing it.
//!
//! Upstream hands over what was read as it is, and one byte may be a part of the 64 KiB that it was read with: wherever it
//! waits then, it counts as one byte and holds all of them. Here it goes over as a copy.
//!
//! Guarantees:
//! - what was spliced holds nothing of what it was read with (`what_was_spliced_holds_no_more_than_itself`).

use bytes::Bytes;
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi_io::bindings::wasi::io::streams::{self as wit, Host as _};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream, StreamResult};

use super::handles::HasHandles;

/// The interface of which the calls here are ours, in the version that upstream defines it.
const STREAMS: &str = "wasi:io/streams@0.2.12";

type Store<'a, T> = StoreContextMut<'a, T>;
type Output = Resource<DynOutputStream>;
type Input = Resource<DynInputStream>;

/// Puts the calls of this file in place of upstream's.
pub(super) fn add_to_linker<T: HasHandles + Send + 'static>(linker: &mut Linker<T>) -> Result<()> {
    let mut streams = linker.instance(STREAMS)?;
    streams.func_wrap(
        "[method]output-stream.splice",
        |mut store: Store<'_, T>, (to, from, most): (Output, Input, u64)| {
            let (table, _) = store.data_mut().handles();
            let moved = splice(table, (&to, &from), most);
            Ok((for_guest(table, moved)?,))
        },
    )?;
    streams.func_wrap_async(
        "[method]output-stream.blocking-splice",
        |store: Store<'_, T>, (to, from, most): (Output, Input, u64)| {
            Box::new(blocking_splice(store, to, from, most))
        },
    )
}

fn splice(
    table: &mut ResourceTable,
    (to, from): (&Output, &Input),
    most: u64,
) -> StreamResult<u64> {
    let room = table.get_mut(to)?.check_write()?;
    let bytes = match room.min(usize::try_from(most).unwrap_or(usize::MAX)) {
        0 => return Ok(0),
        most => table.get_mut(from)?.read(most)?,
    };
    if !bytes.is_empty() {
        table.get_mut(to)?.write(Bytes::copy_from_slice(&bytes))?;
    }
    Ok(bytes.len() as u64)
}

async fn blocking_splice<T: HasHandles + Send>(
    mut store: Store<'_, T>,
    to: Output,
    from: Input,
    most: u64,
) -> Result<(Result<u64, wit::StreamError>,)> {
    let (table, _) = store.data_mut().handles();
    let moved = wait_and_splice(table, (&to, &from), most).await;
    Ok((for_guest(table, moved)?,))
}

async fn wait_and_splice(
    table: &mut ResourceTable,
    (to, from): (&Output, &Input),
    most: u64,
) -> StreamResult<u64> {
    let room = table.get_mut(to)?.write_ready().await?;
    let bytes = match room.min(usize::try_from(most).unwrap_or(usize::MAX)) {
        0 => return Ok(0),
        most => table.get_mut(from)?.blocking_read(most).await?,
    };
    if !bytes.is_empty() {
        let copy = Bytes::copy_from_slice(&bytes);
        table.get_mut(to)?.blocking_write_and_flush(copy).await?;
    }
    Ok(bytes.len() as u64)
}

/// The outcome as the guest gets it.
fn for_guest(
    table: &mut ResourceTable,
    moved: StreamResult<u64>,
) -> Result<Result<u64, wit::StreamError>> {
    match moved {
        Ok(moved) => Ok(Ok(moved)),
        Err(error) => Ok(Err(table.convert_stream_error(error)?)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use wasmtime_wasi_io::poll::Pollable;
    use wasmtime_wasi_io::streams::{InputStream, OutputStream};

    use super::*;

    /// Reads parts of what it has.
    struct Whole(Bytes);

    /// Keeps what is written to it.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Bytes>>>);

    #[async_trait::async_trait]
    impl Pollable for Whole {
        async fn ready(&mut self) {}
    }

    #[async_trait::async_trait]
    impl Pollable for Kept {
        async fn ready(&mut self) {}
    }

    #[async_trait::async_trait]
    impl InputStream for Whole {
        fn read(&mut self, size: usize) -> StreamResult<Bytes> {
            Ok(self.0.split_to(size.min(self.0.len())))
        }
    }

    #[async_trait::async_trait]
    impl OutputStream for Kept {
        fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
            self.0.lock().push(bytes);
            Ok(())
        }

        fn flush(&mut self) -> StreamResult<()> {
            Ok(())
        }

        fn check_write(&mut self) -> StreamResult<usize> {
            Ok(10)
        }
    }

    #[tokio::test]
    async fn what_was_spliced_holds_no_more_than_itself() {
        let (whole, kept) = (Bytes::from(vec![7; 64 << 10]), Kept::default());
        let mut table = ResourceTable::new();
        let from: DynInputStream = Box::new(Whole(whole.clone()));
        let to: DynOutputStream = Box::new(kept.clone());
        let (from, to) = (table.push(from).unwrap(), table.push(to).unwrap());
        assert_eq!(splice(&mut table, (&to, &from), 0).unwrap(), 0);
        assert_eq!(splice(&mut table, (&to, &from), 1).unwrap(), 1);
        let moved = wait_and_splice(&mut table, (&to, &from), u64::MAX).await.unwrap();
        assert_eq!(moved, 10, "as much as it may write");
        let kept = kept.0.lock();
        assert_eq!(kept.iter().map(Bytes::len).collect::<Vec<_>>(), [1, 10]);
        let within = whole.as_ptr_range();
        assert!(kept.iter().all(|piece| piece[0] == 7 && !within.contains(&piece.as_ptr())));
    }
}
