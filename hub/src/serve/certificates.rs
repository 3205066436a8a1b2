//! The hub's own certificates while it runs: none of them ends, whatever its uptime.
//!
//! Guarantees:
//! - what API and link show is exchanged before it ends, and the administrator's with its kubeconfig
//!   (`what_the_hub_shows_and_its_administrator_are_renewed_while_it_runs`), without an end of any connection
//!   (`a_hubs_certificate_is_exchanged_while_it_serves`);
//! - the administrator's kubeconfig is written once there is what it leads to, and what the disk does not take is tried
//!   again (`a_kubeconfig_that_could_not_be_written_is_written_later`), and no certificate is read for that meanwhile
//!   (`certificates_are_looked_at_no_oftener_while_something_is_to_be_told`);
//! - the administrator's is renewed by what it says itself
//!   (`the_administrator_is_renewed_by_what_the_certificate_says`);
//! - by a clock that is lost none is made anew: what there is stays until the clock is set
//!   (`a_hub_whose_clock_is_lost_goes_on_with_what_it_has`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use freewheel_hub_apiserver::{Tls, TlsError};
use freewheel_hub_gateway::{Gateway, SetupError};
use freewheel_hub_objects::clock::Clock;
use freewheel_hub_pki::{Pki, PkiError, Validity, read_text, write};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::names::Names;
use super::tasks::Flag;
use crate::kubeconfig;

/// The clock may jump: it is looked at this often, which costs nothing.
const CERTIFICATE_CHECK_EVERY: Duration = Duration::from_secs(2);
/// The same while the administrator's kubeconfig is still to be written.
const KUBECONFIG_CHECK_EVERY: Duration = Duration::from_millis(50);
/// After a failure.
const RENEWAL_RETRY_AFTER: Duration = Duration::from_secs(60);
const DAY_SECONDS: i64 = 86_400;

/// What is kept valid.
pub(super) struct Certificates {
    /// The hub's folder.
    pub(super) data: PathBuf,
    /// Of the API.
    pub(super) tls: Tls,
    /// Of the link.
    pub(super) gateway: Gateway,
    /// Life of the certificates that both serve with: they are made together.
    pub(super) served: Validity,
    /// By which they end.
    pub(super) clock: Arc<dyn Clock>,
    /// What clients find with the administrator's kubeconfig is written.
    pub(super) announced: Flag,
    /// That kubeconfig says what is valid now.
    pub(super) is_kubeconfig_written: bool,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Gateway(#[from] SetupError),
}

impl Certificates {
    /// Until `stop`.
    ///
    /// # Errors
    /// Never: what fails is tried again, and said.
    pub(super) async fn keep(
        mut self,
        mut pki: Pki,
        names: Names,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let mut wait = KUBECONFIG_CHECK_EVERY;
        let mut next_look = NextLook(Instant::now());
        let mut warned = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
            let looked = if next_look.is_due(Instant::now()) {
                self.renew_due(&mut pki, &names)
            } else {
                self.write_due_kubeconfig(&pki, &names)
            };
            wait = if self.is_kubeconfig_written {
                CERTIFICATE_CHECK_EVERY
            } else {
                KUBECONFIG_CHECK_EVERY
            };
            if let Err(failed) = looked {
                let error = crate::chain(&failed);
                error!(error, "the hub's certificates cannot be made anew; trying again");
                wait = RENEWAL_RETRY_AFTER;
            }
            let now = self.clock.unix_seconds();
            if DAY_SECONDS <= now - warned
                && let Some(days) = ends_soon(&pki, now)
            {
                warned = now;
                warn!(
                    days,
                    "the fleet's CA ends; every spoke and kubeconfig trusts it: plan a new fleet"
                );
            }
        }
    }

    fn renew_due(&mut self, pki: &mut Pki, names: &Names) -> Result<(), Failed> {
        let now = self.clock.unix_seconds();
        if self.served.is_due(now) {
            let (own, served) = pki.serving(&names.dns, &names.addresses, now)?;
            self.tls.exchange(own)?;
            self.gateway.renew_tls()?;
            self.served = served;
            info!("the certificates of API and link are renewed");
        }
        if pki.renew_admin(&self.data, now)? {
            self.is_kubeconfig_written = false;
            info!("the administrator's certificate is renewed");
        }
        self.write_due_kubeconfig(pki, names)
    }

    /// Writes the administrator's kubeconfig where that is still to be done, and there is what it leads to.
    fn write_due_kubeconfig(&mut self, pki: &Pki, names: &Names) -> Result<(), Failed> {
        if !self.is_kubeconfig_written && self.announced.holds() {
            write_kubeconfig(pki, names, &self.data)?;
            self.is_kubeconfig_written = true;
        }
        Ok(())
    }
}

fn write_kubeconfig(pki: &Pki, names: &Names, data: &Path) -> Result<(), PkiError> {
    let access = (&*pki.ca_pem, &*pki.admin_pem, &*pki.admin_key_pem);
    let text = kubeconfig::write("freewheel", &names.api, access);
    let path = data.join("admin.kubeconfig");
    // A person may have set a namespace in it: only what is not ours to keep is written again.
    let old = read_text(&path);
    if old.is_ok_and(|old| kubeconfig::same_access(&old, &text)) {
        return Ok(());
    }
    write(&path, text.as_bytes(), 0o600)
}

/// When the certificates are looked at next: files are read and verified for that, and what is announced may not be written
/// for hours.
struct NextLook(Instant);

impl NextLook {
    /// Whether it is now; the next one is a while later.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.0 <= now;
        if is_due {
            self.0 = now + CERTIFICATE_CHECK_EVERY;
        }
        is_due
    }
}

/// Days that the CA has left, when these are few.
fn ends_soon(pki: &Pki, now: i64) -> Option<i64> {
    let days = pki.authority.validity().days_left(now);
    (days < 365).then_some(days)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::atomic::Ordering;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use clap::Parser as _;
    use freewheel_hub_gateway::Identity;
    use freewheel_hub_modules::{FleetRoot, Modules, Options};
    use freewheel_hub_objects::Objects;
    use freewheel_hub_objects::clock::SystemRandom;
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_link::quic::{ClientTls, Dialer, Endpoint, Socket};
    use freewheel_link::tls::{self, DefaultTimeProvider, FloorClock};
    use freewheel_link::transport::Transport as _;
    use rustls_pki_types::{CertificateDer, ServerName};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::cli::{Cli, Verb};
    use crate::serve::http_v2::tests::Ahead;

    #[test]
    fn certificates_are_looked_at_no_oftener_while_something_is_to_be_told() {
        let start = Instant::now();
        let mut next_look = NextLook(start);
        let looks = (0..200).map(|number| start + number * KUBECONFIG_CHECK_EVERY);
        let looks = looks.filter(|now| next_look.is_due(*now)).count();
        assert_eq!(looks, 5, "in ten seconds");
    }

    fn names() -> Names {
        let at = ["--listen", "127.0.0.1:6443", "--link", "127.0.0.1:6444"];
        let cli = Cli::parse_from(["hub", "serve", "--data", "/data"].into_iter().chain(at));
        let Verb::Serve(options) = cli.verb else { panic!("another verb") };
        Names::new(&options).unwrap()
    }

    /// A hub of which only the certificates are kept, and what its clients see of it.
    struct Bench {
        dir: tempfile::TempDir,
        ca: CertificateDer<'static>,
        ahead: Ahead,
        tls: Tls,
        link: SocketAddr,
        stop: CancellationToken,
    }

    impl Bench {
        fn new() -> (Self, Certificates, Pki) {
            let (dir, ahead) = (tempfile::tempdir().unwrap(), Ahead::default());
            let pki = Pki::open(dir.path(), false).unwrap();
            let ca = pki.authority.ca().clone();
            let clock: Arc<dyn Clock> = Arc::new(ahead.clone());
            let store = Arc::new(MemoryStore::new());
            let objects = Objects::with(store, clock.clone(), Arc::new(SystemRandom));
            let root = FleetRoot::open(&dir.path().join("root"), true).unwrap();
            let (modules, compiler) = (dir.path().join("modules"), "/bin/false".into());
            fs::create_dir(&modules).unwrap();
            let options = Options { dir: modules, compiler, root, may_make: true };
            let images = Arc::new(Modules::open(options).unwrap());
            let identity = Identity { authority: pki.authority.clone(), fleet_root: [3; 32] };
            let gateway = Gateway::new(objects, images, identity, "hub");
            let config = gateway.tls(Arc::new(DefaultTimeProvider)).unwrap();
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let endpoint = Endpoint::hub(Socket::Bind(at), config).unwrap();
            let (link, stop) = (endpoint.local_addr().unwrap(), CancellationToken::new());
            let (serving, ended) = (gateway.clone(), stop.clone());
            tokio::spawn(async move { serving.serve(endpoint, ended).await });
            let (own, served) =
                pki.serving(&names().dns, &names().addresses, clock.unix_seconds()).unwrap();
            let tls = Tls::new(own.chain, own.key, std::slice::from_ref(&ca)).unwrap();
            write_kubeconfig(&pki, &names(), dir.path()).unwrap();
            let data = dir.path().to_owned();
            let announced = Flag::default();
            announced.set(true);
            let tls_kept = tls.clone();
            let kept = Certificates {
                data,
                tls: tls_kept,
                gateway,
                served,
                clock,
                announced,
                is_kubeconfig_written: true,
            };
            (Self { dir, ca, ahead, tls, link, stop }, kept, pki)
        }

        /// A client's clock that shows what the hub's does.
        fn clock(&self) -> Arc<FloorClock> {
            Arc::new(FloorClock::new(self.ahead.unix_seconds().try_into().unwrap()))
        }

        /// The certificate that the API shows, where a client takes it.
        async fn of_api(&self) -> Option<Vec<u8>> {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.ca.clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_details(provider, self.clock())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let (client, server) = tokio::io::duplex(64 << 10);
            let acceptor = TlsAcceptor::from(self.tls.config.clone());
            let name = ServerName::try_from("kubernetes").unwrap();
            let (client, _server) = tokio::join!(
                TlsConnector::from(Arc::new(config)).connect(name, client),
                acceptor.accept(server),
            );
            let client = client.ok()?;
            Some(client.get_ref().1.peer_certificates()?.first()?.to_vec())
        }

        /// The same of the link.
        async fn of_link(&self) -> Option<Vec<u8>> {
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let endpoint = Endpoint::spoke(Socket::Bind(at)).unwrap();
            let config = tls::join_client(tls::key_hash(&self.ca).unwrap(), self.clock()).unwrap();
            let tls = ClientTls::new(config).unwrap();
            let link = Dialer::new(endpoint, self.link.to_string(), tls).connect().await.ok()?;
            link.peer().certificate.map(|shown| shown.to_vec())
        }

        /// What is shown, and what the administrator has.
        async fn seen(&self) -> (Option<Vec<u8>>, Option<Vec<u8>>, String) {
            let kubeconfig = fs::read_to_string(self.dir.path().join("admin.kubeconfig"));
            (self.of_api().await, self.of_link().await, kubeconfig.unwrap())
        }
    }

    #[tokio::test]
    async fn a_kubeconfig_that_could_not_be_written_is_written_later() {
        let (bench, mut kept, mut pki) = Bench::new();
        let path = bench.dir.path().join("admin.kubeconfig");
        // A folder in its place: the disk does not take it.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        kept.is_kubeconfig_written = false;
        kept.announced.set(false);
        kept.renew_due(&mut pki, &names()).unwrap();
        kept.announced.set(true);
        kept.renew_due(&mut pki, &names()).unwrap_err();
        fs::remove_dir(&path).unwrap();
        kept.renew_due(&mut pki, &names()).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("client-certificate-data"));
    }

    #[tokio::test]
    async fn a_hub_whose_clock_is_lost_goes_on_with_what_it_has() {
        let (bench, mut kept, mut pki) = Bench::new();
        let before = bench.seen().await;
        assert!(before.0.is_some() && before.1.is_some());
        bench.ahead.0.store(4 - bench.ahead.unix_seconds(), Ordering::Relaxed);
        for _ in 0..2 {
            let failed = crate::chain(&kept.renew_due(&mut pki, &names()).unwrap_err());
            assert!(failed.contains("the clock shows 1970-01-01T00:00:0"), "{failed}");
        }
        bench.ahead.0.store(0, Ordering::Relaxed);
        assert_eq!(bench.seen().await, before, "what was shown is shown");
        kept.renew_due(&mut pki, &names()).unwrap();
        assert_eq!(bench.seen().await, before, "and none of it was due");
    }

    #[tokio::test]
    async fn what_the_hub_shows_and_its_administrator_are_renewed_while_it_runs() {
        let (bench, mut kept, mut pki) = Bench::new();
        let before = bench.seen().await;
        assert!(before.0.is_some() && before.1.is_some());
        kept.renew_due(&mut pki, &names()).unwrap();
        assert_eq!(bench.seen().await, before, "none of them is due");
        // On its last day, whatever its life is.
        let left = kept.served.to - bench.ahead.unix_seconds() - DAY_SECONDS;
        bench.ahead.0.store(left, Ordering::Relaxed);
        let keeps = tokio::spawn(kept.keep(pki, names(), bench.stop.clone()));
        let renewed = async {
            loop {
                let now = bench.seen().await;
                let shown = now.0.is_some() && now.1.is_some();
                if shown && now.0 != before.0 && now.1 != before.1 && now.2 != before.2 {
                    return now.2;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let kubeconfig = tokio::time::timeout(Duration::from_secs(60), renewed).await.unwrap();
        let admin = fs::read(bench.dir.path().join("pki/admin.crt")).unwrap();
        assert!(kubeconfig.contains(&STANDARD.encode(admin)));
        bench.stop.cancel();
        keeps.await.unwrap().unwrap();
    }
}
