//! Devices that are asked for figures in no time, over hours that pass in none.

use async_trait::async_trait;
use freewheel_hub_api::streams::{ByteStream, ExecOptions, LogOptions};
use freewheel_hub_objects::clock::SystemClock;
use freewheel_hub_schema::uid::Uid;
use freewheel_link::figures::{ContainerUseV1, DeviceV1, Figures, PodUseV1};
use freewheel_link::stream_budget::PodClient;
use freewheel_link::transport::Stream;
use futures::FutureExt as _;
use tokio::time::{advance, timeout};

use super::*;

/// Devices that tell figures, and nothing else.
#[derive(Default)]
struct Devices {
    asked: AtomicUsize,
    /// How often they refuse at first.
    busy: AtomicUsize,
    /// How long before somebody else has asked them.
    before: Duration,
    /// How long an answer takes.
    slow: Duration,
    containers: usize,
}

fn no_streams() -> ApiError {
    ApiError::bad_request("it has figures alone")
}

#[async_trait]
impl SpokeStreams for Devices {
    async fn logs(
        &self,
        _spoke: &ClusterName,
        _pod_uid: &Uid,
        _options: LogOptions,
        _client: PodClient,
    ) -> Result<ByteStream, ApiError> {
        Err(no_streams())
    }

    async fn port_forward(
        &self,
        _spoke: &ClusterName,
        _pod_uid: &Uid,
        _port: u16,
        _client: PodClient,
    ) -> Result<Stream, ApiError> {
        Err(no_streams())
    }

    async fn exec(
        &self,
        _spoke: &ClusterName,
        _pod_uid: &Uid,
        _options: ExecOptions,
        _client: PodClient,
    ) -> Result<Stream, ApiError> {
        Err(no_streams())
    }

    fn reaches(&self, _spoke: &ClusterName) -> Result<(), ApiError> {
        Ok(())
    }

    /// Those called `silent` say nothing.
    async fn figures(&self, spoke: &ClusterName) -> Result<SpokeFigures, ApiError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if spoke.as_str().starts_with("silent") {
            return std::future::pending().await;
        }
        if 0 < self.busy.load(Ordering::SeqCst) {
            self.busy.fetch_sub(1, Ordering::SeqCst);
            return Err(ApiError::new(429, "TooManyRequests", "somebody else has them"));
        }
        let asked = Instant::now() - self.before;
        tokio::time::sleep(self.slow).await;
        let name = "n".repeat(60);
        let container = ContainerUseV1 { name, ..ContainerUseV1::default() };
        let pod = PodUseV1 {
            realm: ClusterName::root(),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            containers: vec![container; self.containers],
        };
        let told = vec![Figures::Device(DeviceV1::default()), Figures::Pod(pod)];
        Ok(SpokeFigures::since(asked, told))
    }
}

/// They, and what is known of them.
fn made(devices: Devices) -> (Arc<Devices>, Samples) {
    let devices = Arc::new(devices);
    (devices.clone(), Samples::new(devices, Arc::new(SystemClock)))
}

fn named(name: &str) -> Device {
    Device { name: ClusterName::try_from(name).unwrap(), uid: None }
}

impl Devices {
    #[track_caller]
    fn were_asked(&self, times: usize) {
        assert_eq!(self.asked.load(Ordering::SeqCst), times);
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_for_a_while() {
    let (devices, samples) = made(Devices::default());
    let pi = named("pi-7");
    let first = samples.newest(&pi).await.unwrap();
    devices.were_asked(2);
    advance(SAMPLE_FRESH_FOR - Duration::from_millis(1)).await;
    assert!(Arc::ptr_eq(&first, &samples.newest(&pi).await.unwrap()));
    devices.were_asked(2);
    advance(Duration::from_millis(1)).await;
    assert!(!Arc::ptr_eq(&first, &samples.newest(&pi).await.unwrap()));
    devices.were_asked(3);
}

#[tokio::test(start_paused = true)]
async fn two_answers_make_a_window() {
    let (devices, samples) = made(Devices::default());
    let pi = named("pi-7");
    let window = async || samples.newest(&pi).await.unwrap().window.unwrap();
    assert_eq!(window().await, secs(1));
    advance(secs(40)).await;
    assert_eq!(window().await, secs(40));
    devices.were_asked(3);
    advance(SAMPLE_KEPT_FOR).await;
    assert_eq!(window().await, secs(1), "what was a minute ago does not count");
    devices.were_asked(5);
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_has_a_longer_window() {
    for (slow, expected) in [(50, 1_000), (300, 3_000), (2_000, 5_000)] {
        let slow = Duration::from_millis(slow);
        let (_, samples) = made(Devices { slow, ..Devices::default() });
        let window = samples.newest(&named("pi-7")).await.unwrap().window.unwrap();
        // It is measured between the middles of both.
        let expected = Duration::from_millis(expected) + slow / 2;
        assert_eq!(window, expected, "{slow:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_ask_together_ask_once() {
    let (devices, samples) = made(Devices { slow: secs(1), ..Devices::default() });
    let pi = named("pi-7");
    let all = futures::future::join_all((0..50).map(|_| samples.newest(&pi))).await;
    devices.were_asked(2);
    assert!(all.iter().all(Option::is_some));
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_leaves_what_was_said_to_the_next() {
    let (devices, samples) = made(Devices::default());
    let pi = named("pi-7");
    assert!(timeout(Duration::from_millis(500), samples.newest(&pi)).await.is_err());
    devices.were_asked(1);
    assert_eq!(samples.newest(&pi).await.unwrap().window, Some(secs(1)));
    devices.were_asked(2);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_left_alone() {
    let (devices, samples) = made(Devices::default());
    let (silent, pi) = (named("silent"), named("pi-7"));
    let began = Instant::now();
    let other = async {
        assert!(samples.newest(&pi).await.is_some());
        began.elapsed()
    };
    let (nothing, other) = tokio::join!(samples.newest(&silent), other);
    assert!(nothing.is_none());
    assert_eq!((other, began.elapsed()), (secs(1), ANSWER_MAX));
    devices.were_asked(3);
    assert!(samples.newest(&silent).await.is_none());
    devices.were_asked(3);
    advance(FAILED_DEVICE_PAUSE).await;
    assert!(samples.newest(&silent).await.is_none());
    devices.were_asked(4);
}

#[tokio::test(start_paused = true)]
async fn one_that_failed_once_has_its_turn_among_those_who_never_answer() {
    let (devices, samples) =
        made(Devices { slow: Duration::from_millis(50), ..Devices::default() });
    let mut all: Vec<_> = (0..17).map(|at| named(&format!("silent-{at:02}"))).collect();
    // It fails once.
    let last = named("zz");
    devices.busy.store(1_000, Ordering::SeqCst);
    assert!(samples.newest(&last).await.is_none());
    devices.busy.store(0, Ordering::SeqCst);
    // As a list asks, in the order of names and not for long.
    let silent = futures::future::join_all(all.iter().map(|one| samples.newest(one)));
    assert!(timeout(secs(10), silent).await.is_ok());
    all.push(last);
    let mut found = 0;
    for _ in 0..3 {
        advance(SAMPLE_FRESH_FOR).await;
        let asked = all.iter().map(|one| timeout(secs(10), samples.newest(one)));
        let answers = futures::future::join_all(asked).await;
        found += answers.into_iter().flatten().flatten().count();
    }
    assert_ne!(found, 0);
}

#[tokio::test(start_paused = true)]
async fn many_who_do_not_answer_hold_up_nobody_else() {
    let (devices, samples) = made(Devices::default());
    let (all, pi) = ((0..200).map(|at| named(&format!("silent-{at}"))), named("pi-7"));
    let all: Vec<_> = all.collect();
    let silent = || futures::future::join_all(all.iter().map(|one| samples.newest(one)));
    // Nobody waits for the last ones of them.
    assert!(timeout(secs(18), silent()).await.is_err());
    devices.were_asked(200);
    advance(FAILED_DEVICE_PAUSE).await;
    let began = Instant::now();
    let other = async {
        assert!(samples.newest(&pi).await.is_some());
        began.elapsed()
    };
    let (nothing, other) = tokio::join!(timeout(secs(8), silent()), other);
    assert!(nothing.is_err(), "they have few turns");
    assert_eq!(other, secs(1));
    // Who was asked again in vain is left alone, also when nobody has waited for it.
    let mut left_alone = 0;
    for one in &all {
        // Each has a turn of the runtime's.
        tokio::task::yield_now().await;
        left_alone += usize::from(samples.newest(one).now_or_never().is_some());
    }
    assert_eq!(left_alone, 2 * DOUBTFUL_ASKED_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_later_device_of_a_name_is_another_one() {
    let (devices, samples) = made(Devices::default());
    for uid in ["1", "2"] {
        let device = Device { uid: Some(uid.into()), ..named("pi-7") };
        assert_eq!(samples.newest(&device).await.unwrap().window, Some(secs(1)));
    }
    devices.were_asked(4);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_somebody_elses_question_is_as_old_as_that() {
    let before = Duration::from_millis(400);
    let (_, samples) = made(Devices { before, ..Devices::default() });
    let window = samples.newest(&named("pi-7")).await.unwrap().window;
    // Ten times what an answer takes, and from the middle of the first.
    assert_eq!(window, Some(10 * before - before / 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_has_a_bound() {
    let (devices, samples) = made(Devices { containers: 32_000, ..Devices::default() });
    let mut last = named("pi-0");
    for number in 0..13 {
        last = named(&format!("pi-{number}"));
        let sample = samples.newest(&last).await.unwrap();
        assert!(sample.pod(&ClusterName::root(), "default", "web").is_some());
    }
    let kept = samples.kept.load(Ordering::SeqCst);
    assert!((KEPT_BYTES_MAX / 2..=KEPT_BYTES_MAX).contains(&kept), "{kept}");
    devices.were_asked(26);
    assert!(samples.newest(&named("pi-0")).await.is_some());
    let before = devices.asked.load(Ordering::SeqCst);
    assert!(samples.newest(&last).await.is_some(), "there is no room for it");
    devices.were_asked(before + 2);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_goes() {
    let (_, samples) = made(Devices { containers: 10, ..Devices::default() });
    samples.newest(&named("pi-7")).await.unwrap();
    let one = samples.kept.load(Ordering::SeqCst);
    advance(SAMPLE_KEPT_FOR).await;
    samples.newest(&named("pi-8")).await.unwrap();
    assert_eq!(samples.kept.load(Ordering::SeqCst), one);
    let known: Vec<_> = samples.devices.lock().all.keys().cloned().collect();
    assert_eq!(known, [named("pi-8")]);
}
