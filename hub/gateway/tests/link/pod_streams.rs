//! Streams to pods, for clients of the API.

use freewheel_hub_api::streams::ExecOptions;
use freewheel_link::message::{ExecV1, PortForwardV1, RefusalV1};

use crate::support::*;

#[tokio::test]
async fn streams_to_pods_come_through_and_refusals_keep_their_words() {
    let hub = Hub::new(true).await;
    let accepted = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    let name = accepted.cluster.clone();
    let streams = hub.gateway.streams();
    let uid = "u".into();
    for offline in [
        streams.reaches(&name).unwrap_err(),
        streams.port_forward(&name, &uid, 80, ann()).await.unwrap_err(),
    ] {
        assert_eq!((offline.code, offline.reason), (503, "ServiceUnavailable"));
        assert_eq!(offline.message, "the spoke pi-7 is not connected to the hub");
    }
    let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(accepted.certificate)));
    let mut session = greet(&*link, hello("pi-7")).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
    streams.reaches(&name).unwrap();
    let far = link.clone();
    tokio::spawn(async move {
        loop {
            let stream = far.accept().await.unwrap();
            let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
            let refusal = match recv.next::<Open>().await.unwrap() {
                Some(Open::PortForward(PortForwardV1 { port: 80, .. })) => None,
                Some(Open::PortForward(asked)) => {
                    Some(RefusalV1::new("ConnectionRefused", format!("port {}", asked.port)))
                }
                Some(Open::Exec(ExecV1 { command, .. })) => {
                    Some(RefusalV1::new("BadRequest", command.join("+")))
                }
                other => panic!("{other:?}"),
            };
            let Some(refusal) = refusal else {
                frame::write(&mut send, &Answer::Ready).await.unwrap();
                tokio::io::copy(&mut recv, &mut send).await.unwrap();
                send.shutdown().await.unwrap();
                continue;
            };
            frame::write(&mut send, &Answer::Refused(refusal)).await.unwrap();
            send.shutdown().await.unwrap();
        }
    });
    let mut port = streams.port_forward(&name, &uid, 80, ann()).await.unwrap();
    port.write_all(b"hello").await.unwrap();
    port.shutdown().await.unwrap();
    let mut back = String::new();
    port.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "hello");
    let refused = streams.port_forward(&name, &uid, 81, ann()).await.unwrap_err();
    assert_eq!((refused.code, &*refused.message), (500, "port 81"));
    let exec = |words: Vec<String>| {
        let options = ExecOptions { command: words, ..ExecOptions::default() };
        streams.exec(&name, &uid, options, ann())
    };
    let words = vec!["ls".to_owned(), "-l".to_owned()];
    let refused = exec(words).await.unwrap_err();
    assert_eq!((refused.code, &*refused.message), (400, "ls+-l"));
    let odd = exec(vec!["\u{1b}[31m\0no\n".to_owned()]).await.unwrap_err();
    assert_eq!(&*odd.message, "[31mno\n", "what a terminal would obey goes");
    let long = exec(vec!["x".repeat(40_000)]).await.unwrap_err();
    assert_eq!((long.code, &*long.message), (400, "the command is too long"));
}

#[tokio::test]
async fn forty_names_of_one_cluster_leave_the_root_streams_to_pods_of_a_shared_device() {
    let hub = Hub::new(true).await;
    let (link, _session) = hub.spoke("pi-7").await;
    let (streams, name) = (hub.gateway.streams(), ClusterName::try_from("pi-7").unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok(stream) = link.accept().await {
            let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
            assert!(recv.next::<Open>().await.unwrap().is_some());
            frame::write(&mut send, &Answer::Ready).await.unwrap();
            open.push((send, recv));
        }
    });
    let site = |at: usize| {
        let user = format!("user-{at}").as_str().into();
        PodClient::new(&name, Principal::Cluster(name.clone(), user))
    };
    let exec = |uid: &str, client: PodClient| {
        let options = ExecOptions { command: vec!["ls".to_owned()], ..ExecOptions::default() };
        let (streams, name, uid) = (&streams, &name, uid.into());
        async move { streams.exec(name, &uid, options, client).await }
    };
    let mut theirs = Vec::new();
    let mut logs = Vec::new();
    for at in 0..40 {
        theirs.extend(exec("theirs", site(at)).await.ok());
        while let Ok(stream) = streams.port_forward(&name, &"theirs".into(), 80, site(at)).await {
            theirs.push(stream);
        }
        let options = LogOptions { follow: true, ..LogOptions::default() };
        while let Ok(log) = streams.logs(&name, &"theirs".into(), options.clone(), site(at)).await {
            logs.push(log);
        }
    }
    let refused = streams.port_forward(&name, &"theirs".into(), 80, site(40)).await.unwrap_err();
    let again = refused.details.as_ref().and_then(|details| details.retry_after_seconds);
    assert_eq!((refused.code, again), (429, Some(1)));
    assert!(refused.message.ends_with("by now for users of pi-7"), "{refused}");
    let webhook = PodClient::new(&ClusterName::root(), Principal::Hub(ClusterName::root()));
    let own = [
        streams.port_forward(&name, &"own".into(), 80, ann()).await.err(),
        streams.port_forward(&name, &"own".into(), 443, webhook).await.err(),
        exec("own", ann()).await.err(),
        streams.logs(&name, &"own".into(), LogOptions::default(), ann()).await.err(),
    ];
    assert!(own.iter().all(Option::is_none), "{own:?}");
}
