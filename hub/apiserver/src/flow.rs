//! What every request passes: the room for those that are under way, and the seats that its cluster serves it in.
//!
//! ```text
//! watch, log, session ─▶ lasting ─────────────────────────────┐
//! all else ─▶ room, by cluster ─▶ seats of its cluster (KEP-1040) ─▶ answered ─▶ all of it is out: both are free
//!                                                             └─ a large answer, a large write ─▶ room by the byte
//! ```
//!
//! The room is the hub's memory, which [clusters share](shares): each has at most three times what is free, so that
//! none takes it from the others, and who waits for a seat is in it, too. What lasts, large answers, large writes and work
//! that takes long are shared in the same way, and in each cluster by its users. In it a cluster has [`Bounds::seats`], and its
//! FlowSchemas and PriorityLevelConfigurations say who of its users gets them ([seats], [configurations]); those of one
//! cluster are nothing to another's requests. Exempt requests take no seat of these: in the root a share of the room for
//! each user, in another cluster, which says itself who is exempt, as many seats beside the others at most. A watch has its seat until all is out that was there at its beginning. Health is asked without a passage: to
//! restart a hub that is busy makes nothing better.
//!
//! Guarantees:
//! - requests under way are bounded, by cluster and by flow; who finds no place waits for a while, among few, and is
//!   then told to ask again (`one_client_s_flood_is_refused_and_others_are_served`,
//!   `requests_beyond_the_bound_come_back_later`);
//! - no cluster takes the room from the others (`a_cluster_leaves_room_for_the_others`), nor does somebody who asks in many
//!   of them (`who_names_many_clusters_has_one_share_of_all`);
//! - what lasts takes no seat, and is bounded itself, by cluster and in that by user
//!   (`what_lasts_takes_no_seat_and_is_bounded`, `one_cluster_s_users_take_no_place_of_another_s`,
//!   `a_watch_gives_its_seat_back_when_it_has_begun`).

pub(crate) mod asked;
mod configurations;
mod fair_pool;
mod figures;
pub(crate) mod large_answers;
pub(crate) mod large_writes;
mod priority_levels;
mod refusal;
mod seats;
pub(crate) mod shares;
pub(crate) mod workers;

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_fairness::{Class, LevelState, Request};
use freewheel_hub_metrics::{Hold, Metrics};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::Store;
use freewheel_link::names::ClusterName;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::authn::User;
use configurations::Configurations;
use fair_pool::{FairPool, PoolShare};
use figures::FlowFigures;
use large_answers::LargeAnswers;
use large_writes::LargeWrites;
pub(crate) use priority_levels::dump;
use refusal::{no_seat, too_many};
use seats::{ClusterSeats, Seat};
use shares::Sharer;
use workers::Workers;

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// How many requests are under way at a time.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// All that do not last, of all clusters. A cluster that is alone gets three quarters.
    pub requests: usize,
    /// What one cluster's priority levels share.
    pub seats: u32,
    /// Watches, logs and sessions. A cluster that is alone gets three quarters, and so does somebody in the root.
    pub lasting: usize,
}

impl Default for Bounds {
    /// A request takes some 10 KiB beside what is on an account, so that all of them take less than the answers may.
    /// kube-apiserver's 600 seats are for threads that work; here most of those under way wait for a slow client, and
    /// six clusters find as many at a time.
    fn default() -> Self {
        Self { requests: 8_192, seats: 1_024, lasting: 16_384 }
    }
}

/// Whether what is asked for goes on until somebody ends it.
pub(crate) fn lasts(verb: &str, subresource: &str) -> bool {
    verb == "watch" || matches!(subresource, "log" | "proxy" | "portforward" | "exec" | "attach")
}

/// What a request has while it is under way.
pub(crate) struct Passage {
    seat: Option<TakenSeat>,
    _place: PoolShare,
}

/// A seat, and what counts it.
pub(crate) struct TakenSeat {
    _seat: Seat,
    _counted: Option<Hold>,
}

impl Passage {
    /// Takes the seat out of it.
    pub(crate) fn seat(&mut self) -> Option<TakenSeat> {
        self.seat.take()
    }
}

/// The room.
pub(crate) struct Flows {
    requests: Arc<FairPool>,
    lasting: Arc<FairPool>,
    configurations: Arc<Configurations>,
    seats: Arc<ClusterSeats>,
    figures: Arc<FlowFigures>,
    /// For large answers, by the byte.
    pub(crate) large_answers: LargeAnswers,
    /// For what large writes are made of, in the same way.
    pub(crate) large_writes: LargeWrites,
    /// For what takes milliseconds.
    pub(crate) workers: Workers,
}

impl Flows {
    /// With these bounds, and this patience for who reads nothing of a large answer.
    ///
    /// # Errors
    /// When what is suggested for all clusters is no configuration.
    pub(crate) fn new(
        bounds: &Bounds,
        patience: Duration,
        metrics: &Metrics,
    ) -> std::io::Result<Self> {
        // Three of four are a share.
        let [requests, lasting] =
            [bounds.requests, bounds.lasting].map(|number| FairPool::new(number.max(4)));
        let configurations = Arc::new(Configurations::suggested()?);
        let seats = Arc::new(ClusterSeats::of(bounds.seats.max(1)));
        let figures = FlowFigures::of(configurations.suggested_names());
        let (root, own, of_root) = (ClusterName::root(), configurations.clone(), seats.clone());
        figures.show(metrics, move || of_root.levels(&root, || own.of(&root)));
        let (large_answers, large_writes) = (LargeAnswers::new(patience), LargeWrites::default());
        let workers = Workers::default();
        Ok(Self {
            requests,
            lasting,
            configurations,
            seats,
            figures,
            large_answers,
            large_writes,
            workers,
        })
    }

    /// Takes in what clusters say about their requests. For ever.
    pub(crate) async fn follow(&self, store: &dyn Store) {
        self.configurations.follow(store).await;
    }

    /// Whose a request is, by what its cluster says.
    pub(crate) fn classify(&self, cluster: &ClusterName, request: &Request<'_>) -> Class {
        self.configurations.of(cluster).classify(request)
    }

    /// Waits for a passage of a request of this class, which takes as many seats as it says.
    ///
    /// # Errors
    /// 429 when there is none.
    pub(crate) async fn pass(
        &self,
        cluster: &ClusterName,
        (user, class): (&User, &Class),
        width: impl FnOnce() -> u32,
    ) -> Result<Passage, ApiError> {
        let is_own = class.level.is_exempt && cluster.is_root();
        let place = self.requests.part(sharer(cluster, user, is_own), 1).await;
        let place = place.map_err(too_many)?;
        let asking = self.figures.asks(class);
        let width = if is_own { 1 } else { width() };
        let said = || self.configurations.of(cluster);
        match self.seats.take((cluster, said), class, width).await {
            Ok(seat) => {
                let counted = asking.map(figures::Asking::served);
                let seat = TakenSeat { _seat: seat, _counted: counted };
                Ok(Passage { seat: Some(seat), _place: place })
            }
            Err(why) => {
                if let Some(asking) = asking {
                    asking.refused(why);
                }
                Err(no_seat(why))
            }
        }
    }

    /// Waits for a place of something that is going to last, before it is known who may have it.
    ///
    /// # Errors
    /// 429 when there is none.
    pub(crate) async fn enter(
        &self,
        cluster: &ClusterName,
        user: &User,
    ) -> Result<Passage, ApiError> {
        let place = self.requests.part(sharer(cluster, user, false), 1).await;
        let place = place.map_err(too_many)?;
        Ok(Passage { seat: None, _place: place })
    }

    /// Waits for a place for what lasts.
    ///
    /// # Errors
    /// 429 when there is none for this user.
    pub(crate) async fn last(&self, user: &User) -> Result<Passage, ApiError> {
        let place = self.lasting.part(user.into(), 1).await;
        let place = place.map_err(too_many)?;
        Ok(Passage { seat: None, _place: place })
    }

    /// The priority levels of a cluster at this moment.
    pub(crate) fn levels(&self, cluster: &ClusterName) -> Vec<LevelState> {
        self.seats.levels(cluster, || self.configurations.of(cluster))
    }
}

/// Who holds the place of a request while it is under way: a cluster's own users together, as those of the root; each of
/// the root's who asks elsewhere, or is exempt there.
fn sharer<'a>(cluster: &ClusterName, user: &'a User, is_own: bool) -> Sharer<'a> {
    let sharer = Sharer::from(user);
    let is_guest = sharer.is_of_root() && !cluster.is_root();
    if is_own || is_guest { sharer } else { sharer.together() }
}

/// Says whose its request was, where objects say so.
pub(crate) fn set_headers(class: &Class, headers: &mut HeaderMap) {
    for (name, uid) in [(SCHEMA_UID, &class.schema.uid), (LEVEL_UID, &class.level.uid)] {
        if let Ok(value) = HeaderValue::from_str(uid)
            && !uid.is_empty()
        {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_fairness::What;
    use futures::FutureExt as _;

    use super::*;
    use crate::authn::{AUTHENTICATED, Home};

    fn room(bounds: &Bounds) -> Flows {
        Flows::new(bounds, Duration::from_secs(30), &Metrics::default()).unwrap()
    }

    fn user(name: &str) -> User {
        let groups = vec![AUTHENTICATED.to_owned()];
        User { name: name.to_owned(), groups, ..User::default() }
    }

    /// Whom the cluster of this name knows.
    fn of(cluster: &str, user: &User) -> User {
        User { home: Home::Cluster(ClusterName::try_from(cluster).unwrap()), ..user.clone() }
    }

    fn pass(room: &Flows, cluster: &str, user: &User) -> Option<Passage> {
        pass_of_root(room, cluster, &of(cluster, user))
    }

    fn pass_of_root(room: &Flows, cluster: &str, user: &User) -> Option<Passage> {
        let cluster = ClusterName::try_from(cluster).unwrap();
        let what = What::Path("/api");
        let request = Request { user: &user.name, groups: &user.groups, verb: "get", what };
        let class = room.classify(&cluster, &request);
        room.pass(&cluster, (user, &class), || 1).now_or_never()?.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_leaves_room_for_the_others() {
        let room = room(&Bounds { requests: 40, seats: 1_024, lasting: 4 });
        let (ann, mut taken) = (user("ann"), Vec::new());
        while let Some(passage) = pass(&room, "pi-7", &ann) {
            taken.push(passage);
        }
        assert_eq!(taken.len(), 30);
        let others: Vec<_> = ["root", "pi-8"].map(|name| pass(&room, name, &ann)).into();
        assert!(others.iter().all(Option::is_some));
        // In the root, who is exempt has a share of their own.
        let master = User { groups: vec!["system:masters".to_owned()], ..user("ann") };
        let mut masters = Vec::new();
        while let Some(passage) = pass(&room, "root", &master) {
            masters.push(passage);
        }
        assert_eq!(masters.len(), 6);
        assert!(pass(&room, "pi-9", &ann).is_some());
        drop(taken);
        assert!(pass(&room, "root", &master).is_some());
    }

    #[tokio::test]
    async fn a_cluster_that_calls_all_its_requests_exempt_has_a_bound() {
        let room = room(&Bounds { requests: 1_024, seats: 40, lasting: 4 });
        let master = User { groups: vec!["system:masters".to_owned()], ..user("ann") };
        let all =
            |cluster| -> Vec<_> { std::iter::from_fn(|| pass(&room, cluster, &master)).collect() };
        let own = all("pi-7");
        assert_eq!(own.len(), 30);
        assert!(pass(&room, "pi-7", &user("bob")).is_some(), "beside those of its levels");
        assert!(100 < all("root").len(), "in the root nobody but masters is exempt");
    }

    /// The same for a user whom that cluster knows.
    fn last(room: &Flows, cluster: &str, name: &str) -> Option<Passage> {
        room.last(&of(cluster, &user(name))).now_or_never()?.ok()
    }

    #[tokio::test]
    async fn one_cluster_s_users_take_no_place_of_another_s() {
        let room = room(&Bounds { requests: 40, seats: 12, lasting: 1_024 });
        let names: Vec<_> = (0..20).map(|number| format!("u-{number}")).collect();
        let taken: Vec<_> = names
            .iter()
            .flat_map(|name| std::iter::from_fn(|| last(&room, "pi-7", name)))
            .collect();
        assert_eq!(taken.len(), 768, "three quarters");
        for name in ["u-0", "somebody"] {
            for cluster in ["pi-8", "root"] {
                assert!(last(&room, cluster, name).is_some(), "{name} in {cluster}");
            }
        }
        assert!(last(&room, "pi-7", "somebody").is_none());
    }

    /// Somebody of the root asks in each of many clusters.
    #[tokio::test]
    async fn who_names_many_clusters_has_one_share_of_all() {
        let room = room(&Bounds { requests: 1_024, seats: 1_024, lasting: 1_024 });
        let clusters: Vec<_> = (0..512).map(|at| format!("pi-{at}")).collect();
        // What lasts is nobody's but theirs, wherever it is.
        let last_of_root = |name| room.last(&user(name)).now_or_never()?.ok();
        let taken: Vec<_> = std::iter::from_fn(|| last_of_root("tool")).collect();
        assert_eq!(taken.len(), 768, "three quarters");
        let ann: Vec<_> = std::iter::from_fn(|| last_of_root("ann")).collect();
        assert_eq!(ann.len(), 192, "of what is left");
        assert!(last(&room, "pi-0", "its own").is_some(), "its cluster holds nothing");
        let taken: Vec<_> = clusters
            .iter()
            .flat_map(|cluster| [(); 2].map(|()| pass_of_root(&room, cluster, &user("tool"))))
            .flatten()
            .collect();
        assert_eq!(taken.len(), 768, "the same while they are under way");
        assert!(pass(&room, "pi-0", &user("its own")).is_some());
        assert!(pass_of_root(&room, "root", &user("ann")).is_some());
    }

    #[tokio::test]
    async fn what_lasts_takes_no_seat_and_is_bounded() {
        let room = room(&Bounds { requests: 40, seats: 12, lasting: 4 });
        let lasting: Vec<_> = std::iter::from_fn(|| last(&room, "root", "ann")).collect();
        assert_eq!(lasting.len(), 3);
        assert!(last(&room, "root", "bob").is_some());
        assert!(pass(&room, "root", &user("ann")).is_some());
        assert!(lasts("watch", "") && lasts("get", "log") && !lasts("list", ""));
    }
}
