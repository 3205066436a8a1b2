//! A hub whose folder was put back from a copy, and spokes that have seen what came after it.

use freewheel_hub_schema::object::Resource;

use crate::support::*;
use crate::unwell::rolled_back;

async fn holds_pod(session: &mut Session) -> PlanV1 {
    let mut holder = Holder::default();
    loop {
        let plan = holder.plan(session).await;
        holder.took(session, &plan).await;
        if holder.set.iter().any(|record| record.key.kind == Kind::POD_V1) {
            return plan;
        }
    }
}

#[tokio::test]
async fn a_spoke_from_a_lost_future_proves_the_roll_back_and_does_what_the_hub_wants() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    for name in ["pi-7", "pi-8", "pi-9"] {
        hub.create(PODS, "default", name, pod(name, name)).await;
    }
    let store = hub.objects.store();
    // The lost future may have had this one as well, with something else in it.
    let before = store.snapshot().revision();
    let lost = before + 5000;
    let held = Generation { incarnation: 7, revision: lost };
    let (_link, mut session, welcome) = hub.spoke_with("pi-7", held).await;
    assert_ne!(welcome.incarnation, 7, "it is a life of its own");
    let plan = holds_pod(&mut session).await;
    assert!(plan.snapshot);
    assert_eq!(plan.to.incarnation, welcome.incarnation);
    assert!(lost < plan.to.revision, "revisions of the lost future are not used again");
    let scope = |plural| Scope {
        resource: freewheel_hub_schema::object::Resource::new("", plural),
        cluster: None,
        namespace: None,
    };
    for seen in [before, lost - 4000, lost, lost + 1000] {
        assert!(store.watch(vec![scope("pods")], seen).is_err(), "{seen} is of the lost future");
    }
    let events = store.snapshot().range(&scope("events"), None).collect::<Vec<_>>();
    let told: Vec<Value> = events.iter().map(|event| event.object.value().unwrap()).collect();
    let told = told.iter().find(|event| event["reason"] == "HubRolledBack").unwrap();
    assert_eq!(told["involvedObject"]["name"], "pi-7");

    // Another one of that future costs no third life, and one that lies gets what there is.
    let liar = Generation { incarnation: welcome.incarnation, revision: u64::MAX };
    for (name, held) in [("pi-8", held), ("pi-9", liar)] {
        let (_link, mut session, again) = hub.spoke_with(name, held).await;
        assert_eq!(again.incarnation, welcome.incarnation);
        let plan = holds_pod(&mut session).await;
        assert!(plan.snapshot && plan.to.revision < lost + (1 << 37));
    }
}

#[tokio::test(start_paused = true)]
async fn who_lives_in_the_new_life_goes_on_with_what_it_holds() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let lost = hub.objects.store().snapshot().revision() + 5000;
    let ahead = Generation { incarnation: 7, revision: lost };
    let (_link, _session, _) = hub.spoke_with("pi-7", ahead).await;
    let joined = hub.join(&Device::new(), "pi-8", TOKEN).await.unwrap();
    let identity = CertificateDer::from(joined.certificate);
    let link = hub.connect(ALPN_SESSION, Some(identity.clone()));
    let mut session = greet(&*link, hello("pi-8")).await;
    let mut holder = Holder::default();
    let first = holder.plan(&mut session).await;
    holder.took(&mut session, &first).await;
    holder.settle(&mut session).await;
    link.close(0, "gone");
    eventually("its session has ended", || hub.gateway.connected().len() == 1).await;
    hub.create(PODS, "default", "later", pod("later", "pi-8")).await;
    let link = hub.connect(ALPN_SESSION, Some(identity));
    let held = HelloV1 { held: first.to, digest: holder.set.digest(), ..hello("pi-8") };
    let mut session = greet(&*link, held).await;
    let plan = holder.plan(&mut session).await;
    assert!(!plan.snapshot, "it holds a plan of this life");
}

#[tokio::test]
async fn what_a_life_left_out_proves_a_roll_back_whatever_was_written_since() {
    let memory = Arc::new(MemoryStore::with_incarnation(7));
    let hub = Hub::over(memory.clone(), true, None).await;
    hub.listen().await;
    hub.create(PODS, "default", "pi-7", pod("pi-7", "pi-7")).await;
    let opened = memory.snapshot().revision();
    memory.leave_out(opened + 10_000);
    hub.create(PODS, "default", "later", pod("later", "pi-7")).await;
    let held = Generation { incarnation: 7, revision: opened + 5_000 };
    assert!(held.revision < memory.snapshot().revision(), "the hub has passed what it holds");
    let (_link, mut session, welcome) = hub.spoke_with("pi-7", held).await;
    assert_ne!(welcome.incarnation, 7, "it is a life of its own");
    assert!(holds_pod(&mut session).await.snapshot);
    eventually("it is told", || rolled_back(&hub) == 1).await;
}

/// A store whose disk has room for all but a new life by itself.
struct Cramped(MemoryStore);

#[async_trait]
impl Layer for Cramped {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let of_life = |it: &Operation| it.key().resource == Resource::new("internal", "lives");
        if txn.operations.iter().any(of_life) {
            return Err(CommitError::Unavailable("no space left on device".into()));
        }
        self.0.commit(txn).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_life_is_in_the_first_write_beyond_the_lost_one() {
    let hub = Hub::over(Arc::new(Cramped(MemoryStore::with_incarnation(7))), true, None).await;
    hub.listen().await;
    let joined = hub.join(&Device::new(), "pi-8", TOKEN).await.unwrap();
    let store = hub.objects.store();
    let held = Generation { incarnation: 7, revision: store.snapshot().revision() + 5000 };
    // That its session is open is written after the hub has given up waiting for the new life.
    let (_link, _session, _) = hub.spoke_with("pi-7", held).await;
    assert!(held.revision < store.snapshot().revision(), "the hub has passed what pi-8 holds");
    eventually("it is told", || rolled_back(&hub) == 1).await;
    // As if it had been killed just then.
    let next = hub.restarted();
    let link = next.connect(ALPN_SESSION, Some(CertificateDer::from(joined.certificate)));
    let mut session = greet(&*link, HelloV1 { held, ..hello("pi-8") }).await;
    let HubToSpoke::Welcome(welcome) = heard(&mut session).await else { panic!("no welcome") };
    assert_ne!(welcome.incarnation, 7, "what it holds is of another life");
}
