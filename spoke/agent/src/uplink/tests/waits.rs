//! What the spoke asks the hub for: what comes in pieces, what comes later, and what never comes.

use std::net::SocketAddr;

use freewheel_link::artifact::{Envelope, SignerCert};
use freewheel_link::message::{COMPILING_REASON, ModuleHeaderV1, ModuleRequestV1};

use super::super::{FetchError, Sink};
use super::*;

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    artifact: Option<Digest>,
    cuts: usize,
}

#[async_trait]
impl Sink for Kept {
    fn have(&self) -> Option<(u64, Digest)> {
        self.artifact.map(|artifact| (self.bytes.len() as u64, artifact))
    }

    async fn begin(&mut self, header: &ModuleHeaderV1) -> std::io::Result<()> {
        self.bytes.truncate(usize::try_from(header.offset).unwrap());
        self.artifact = Some(header.envelope.artifact);
        Ok(())
    }

    fn cut(&mut self) {
        self.cuts += 1;
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

fn envelope() -> Envelope {
    let signer = SignerCert { key: [0; 32], not_after: 0, signature: Vec::new() };
    Envelope {
        component: Digest([1; 32]),
        profile: PROFILE,
        build: 1,
        artifact: Digest([2; 32]),
        size: 10,
        signer,
        signature: Vec::new(),
    }
}

async fn asked(recv: &mut Reader) -> ModuleRequestV1 {
    let open = soon(recv.next::<Open>()).await.unwrap();
    let Some(Open::Module(request)) = open else { panic!("{open:?}") };
    request
}

#[tokio::test(start_paused = true)]
async fn a_cut_transfer_goes_on_where_it_was_cut() {
    let (hub, spoke) = memory_transport::pair();
    let mut bench = start(vec![spoke]);
    let _session = welcome(&hub).await;
    up(&mut bench).await;
    let envelope = envelope();
    let module = b"0123456789";
    let hub_side = async {
        let mut offsets = Vec::new();
        for sent in [4, 6] {
            let stream = soon(hub.accept()).await.unwrap();
            let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
            let request = asked(&mut recv).await;
            offsets.push(request.offset);
            let header = ModuleHeaderV1 {
                envelope: envelope.clone(),
                compressed: 10,
                offset: request.offset,
            };
            frame::write(&mut send, &Answer::Ready).await.unwrap();
            frame::write(&mut send, &header).await.unwrap();
            let from = usize::try_from(request.offset).unwrap();
            send.write_all(&module[from..from + sent]).await.unwrap();
            send.shutdown().await.unwrap();
        }
        offsets
    };
    let mut kept = Kept::default();
    let mut rng = fastrand::Rng::with_seed(1);
    let fetch = bench.handle.fetch(Digest([1; 32]), PROFILE, &mut kept, &mut rng);
    let (fetched, offsets) = soon(async { tokio::join!(fetch, hub_side) }).await;
    assert_eq!(fetched.unwrap().envelope, envelope);
    assert_eq!(kept.bytes, module);
    assert_eq!(offsets, [0, 4]);
    assert_eq!(kept.cuts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_being_compiled_is_asked_for_again() {
    let (hub, spoke) = memory_transport::pair();
    let mut bench = start(vec![spoke]);
    let _session = welcome(&hub).await;
    up(&mut bench).await;
    let hub_side = async {
        let began = Instant::now();
        for ready in [false, false, false, true] {
            let stream = soon(hub.accept()).await.unwrap();
            let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
            asked(&mut recv).await;
            if ready {
                let header = ModuleHeaderV1 { envelope: envelope(), compressed: 3, offset: 0 };
                frame::write(&mut send, &Answer::Ready).await.unwrap();
                frame::write(&mut send, &header).await.unwrap();
                send.write_all(b"abc").await.unwrap();
            } else {
                let refusal = RefusalV1::new(COMPILING_REASON, "later");
                frame::write(&mut send, &Answer::Refused(refusal)).await.unwrap();
            }
            send.shutdown().await.unwrap();
        }
        began.elapsed()
    };
    let mut kept = Kept::default();
    let mut rng = fastrand::Rng::with_seed(1);
    let fetch = bench.handle.fetch(Digest([1; 32]), PROFILE, &mut kept, &mut rng);
    let (fetched, took) = soon(async { tokio::join!(fetch, hub_side) }).await;
    fetched.unwrap();
    assert_eq!((&*kept.bytes, kept.cuts), (&b"abc"[..], 0));
    // Three waits with jitter, of up to 2, 4 and 8 seconds.
    assert!(Duration::ZERO < took && took < Duration::from_secs(14), "{took:?}");
}

/// Places for connections of pods that nobody has.
fn free(handle: &Handle) -> usize {
    let one = || handle.shared.opened.take(Use::Tunnel(ClusterName::root(), None));
    let all: Vec<_> = std::iter::from_fn(|| one().ok()).collect();
    all.len()
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_does_not_answer_keeps_no_connection_waiting_and_no_place() {
    for accepts in [true, false] {
        let (hub, spoke) = memory_transport::pair();
        let mut bench = start(vec![spoke]);
        let _session = welcome(&hub).await;
        up(&mut bench).await;
        let before = free(&bench.handle);
        if accepts {
            let hub = hub.clone();
            tokio::spawn(async move {
                let mut kept = Vec::new();
                while let Ok(stream) = hub.accept().await {
                    kept.push(stream);
                }
            });
        }
        // Of those that nobody accepts the link has no stream for the last ones.
        let began = Instant::now();
        let mut tunnels = tokio::task::JoinSet::new();
        for port in 4000..4080 {
            let handle = bench.handle.clone();
            let from = SocketAddr::from(([10, 64, 0, 2], port));
            let to = SocketAddr::from(([10, 64, 1, 2], 80));
            let ask = TunnelV1 { realm: ClusterName::root(), from, to };
            tunnels.spawn(async move { handle.tunnel(ask).await });
        }
        while let Some(tunnel) = soon(tunnels.join_next()).await {
            let error = tunnel.unwrap().err().unwrap();
            assert!(
                matches!(&error, FetchError::Broken(why) if why == "no answer came"),
                "{error}"
            );
        }
        assert!(began.elapsed() <= Duration::from_secs(20), "{:?}", began.elapsed());
        assert_eq!(free(&bench.handle), before, "accepted: {accepts}");
    }
}
