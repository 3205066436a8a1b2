//! The hub's own certificates while it runs: none of them ends, whatever its uptime.
//!
//! Guarantees:
//! - a certificate that is served is exchanged without an end of any connection
//!   (`a_hubs_certificate_is_exchanged_while_it_serves`);
//! - the administrator's is renewed by what it says itself
//!   (`the_administrator_is_renewed_by_what_the_certificate_says`).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use freewheel_hub_apiserver::{Tls, TlsError};
use freewheel_hub_gateway::{Gateway, SetupError};
use freewheel_hub_pki::{Pki, PkiError, Validity, now};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::names::Names;
use super::write_kubeconfig;

/// The clock may jump: it is looked at this often, which costs nothing.
const CERTIFICATE_CHECK_EVERY: Duration = Duration::from_secs(2);
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
        let mut wait = CERTIFICATE_CHECK_EVERY;
        let mut warned = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => wait = CERTIFICATE_CHECK_EVERY,
            }
            if let Err(failed) = self.look(&mut pki, &names) {
                let error = crate::chain(&failed);
                error!(error, "the hub's certificates cannot be made anew; trying again");
                wait = RENEWAL_RETRY_AFTER;
            }
            if DAY_SECONDS <= now() - warned
                && let Some(days) = ends_soon(&pki)
            {
                warned = now();
                warn!(
                    days,
                    "the fleet's CA ends; every spoke and kubeconfig trusts it: plan a new fleet"
                );
            }
        }
    }

    fn look(&mut self, pki: &mut Pki, names: &Names) -> Result<(), Failed> {
        if self.served.is_due(now()) {
            let (own, served) = pki.serving(&names.dns, &names.addresses)?;
            self.tls.exchange(own)?;
            self.gateway.renew_tls()?;
            self.served = served;
            info!("the certificates of API and link are renewed");
        }
        if pki.renew_admin(&self.data)? {
            write_kubeconfig(pki, names, &self.data)?;
            info!("the administrator's certificate is renewed, and admin.kubeconfig written anew");
        }
        Ok(())
    }
}

/// Days that the CA has left, when these are few.
fn ends_soon(pki: &Pki) -> Option<i64> {
    let days = pki.authority.validity().days_left(now());
    (days < 365).then_some(days)
}
