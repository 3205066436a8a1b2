//! What a device says, cut to what a message may be: a report that does not fit must not end the session that
//! would carry the next one.
//!
//! Guarantees:
//! - what comes out of [`Report::fit`] fits a frame, and says which containers were left out
//!   (`a_report_of_any_size_becomes_one_that_can_be_sent`);
//! - what comes out of [`NodeStatusV1::fit`] is what a hub takes (`a_device_with_odd_words_is_one_that_a_hub_takes`).

use crate::frame;
use crate::limits;
use crate::message::bounded;
use crate::report::{
    ConditionV1, ContainerStateV1, ContainerStatusV1, NodeStatusV1, PodStatusV1, Report,
    TerminatedV1,
};

/// Room for what is around a report in its message.
const REPORT_OVERHEAD_BYTES: usize = 64;
/// A text of a report that is too long as a whole.
const CUT_TEXT_BYTES_MAX: usize = 256;

impl Report {
    /// The same in a message that can be sent: texts are cut first, then containers are left out.
    #[must_use]
    pub fn fit(self) -> Self {
        if fits(&self) {
            return self;
        }
        match self {
            Self::Pod(pod) => Self::Pod(fit_pod(pod)),
            Self::Node(mut node) => {
                node.fit();
                Self::Node(node)
            }
            Self::Event(mut event) => {
                for text in [&mut event.namespace, &mut event.pod, &mut event.uid] {
                    cut(text);
                }
                for text in [&mut event.field_path, &mut event.reason, &mut event.message] {
                    cut(text);
                }
                Self::Event(event)
            }
            Self::NodeEvent(mut event) => {
                [&mut event.reason, &mut event.message].into_iter().for_each(cut);
                Self::NodeEvent(event)
            }
            Self::PodGone { realm, uid } => {
                Self::PodGone { realm, uid: bounded(uid, CUT_TEXT_BYTES_MAX) }
            }
        }
    }
}

fn fits(report: &Report) -> bool {
    postcard::to_stdvec(report)
        .is_ok_and(|bytes| bytes.len() + REPORT_OVERHEAD_BYTES <= frame::FRAME_BODY_BYTES_MAX)
}

fn cut(text: &mut String) {
    *text = bounded(std::mem::take(text), CUT_TEXT_BYTES_MAX);
}

fn fit_pod(mut pod: PodStatusV1) -> PodStatusV1 {
    for text in [&mut pod.reason, &mut pod.message] {
        cut(text);
    }
    pod.conditions.truncate(64);
    pod.parts.bound();
    for ConditionV1 { kind, reason, message, .. } in &mut pod.conditions {
        [kind, reason, message].into_iter().for_each(cut);
    }
    for status in pod.init.iter_mut().chain(&mut pod.containers) {
        cut_container(status);
    }
    let all = pod.init.len() + pod.containers.len();
    let mut room = limits::FRAME_BYTES_MAX / 2;
    let mut keep = |list: &mut Vec<ContainerStatusV1>| {
        list.retain(|status| {
            let weight = postcard::to_stdvec(status).map_or(room + 1, |bytes| bytes.len());
            let stays = weight <= room;
            room = if stays { room - weight } else { 0 };
            stays
        });
    };
    keep(&mut pod.init);
    keep(&mut pod.containers);
    let left = pod.init.len() + pod.containers.len();
    if left < all && pod.message.is_empty() {
        pod.message =
            format!("the states of {} of {all} containers are too long to tell", all - left);
    }
    pod
}

fn cut_container(status: &mut ContainerStatusV1) {
    let end = |end: &mut TerminatedV1| {
        cut(&mut end.reason);
        cut(&mut end.message);
    };
    let ContainerStatusV1 { name, image, image_id, container_id, state, last, last_id, .. } =
        status;
    [name, image, image_id, container_id, last_id].into_iter().for_each(cut);
    match state {
        ContainerStateV1::Waiting(reason, message) => {
            cut(reason);
            cut(message);
        }
        ContainerStateV1::Running(_) => {}
        ContainerStateV1::Terminated(ended) => end(ended),
    }
    if let Some(last) = last {
        end(last);
    }
}

impl NodeStatusV1 {
    /// Cuts it to what a hub takes ([`NodeStatusV1::is_bounded`]); whether something had to go.
    pub fn fit(&mut self) -> bool {
        if self.is_bounded() {
            return false;
        }
        let Self { hostname, architecture, kernel, os_image, .. } = self;
        [hostname, architecture, kernel, os_image].into_iter().for_each(cut);
        let Self { machine_id, boot_id, version, profile, .. } = self;
        [machine_id, boot_id, version, profile].into_iter().for_each(cut);
        self.labels.retain(|(key, value)| key.len() <= 317 && value.len() <= 63);
        self.labels.truncate(64);
        self.pressure.retain(|text| text.len() <= 64);
        self.pressure.truncate(8);
        self.parts.bound();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::SpokeToHub;
    use crate::report::NodeEventV1;
    use crate::report::ReportStamp;
    use crate::report::testing::{event, node, pod};

    #[track_caller]
    fn sent(report: Report) -> Report {
        let fitted = report.fit();
        let stamp = ReportStamp { boot_epoch: u64::MAX, sequence: u64::MAX };
        let message = SpokeToHub::Report { stamp, report: fitted.clone() };
        assert!(frame::encode(&message).is_ok());
        fitted
    }

    #[test]
    fn a_report_of_any_size_becomes_one_that_can_be_sent() {
        assert_eq!(sent(Report::Pod(pod("u"))), Report::Pod(pod("u")), "what fits stays as it is");
        let mut wordy = pod("u");
        wordy.message = "x".repeat(3 << 20);
        let Report::Pod(short) = sent(Report::Pod(wordy)) else { panic!() };
        assert_eq!((short.message.len(), short.containers.len()), (CUT_TEXT_BYTES_MAX, 1));
        let mut many = pod("u");
        many.containers = vec![many.containers[0].clone(); 40_000];
        let Report::Pod(some) = sent(Report::Pod(many)) else { panic!() };
        assert!(1000 < some.containers.len() && some.containers.len() < 40_000);
        assert!(some.message.contains("of 40000 containers"), "{}", some.message);
        let mut loud = event();
        loud.message = "é".repeat(1 << 20);
        let message = loud.message.clone();
        sent(Report::Event(loud));
        sent(Report::NodeEvent(NodeEventV1 { warning: true, reason: "r".into(), message, at: 1 }));
        let mut large = node();
        large.os_image = "x".repeat(2 << 20);
        sent(Report::Node(large));
    }

    #[test]
    fn a_device_with_odd_words_is_one_that_a_hub_takes() {
        let mut odd = node();
        assert!(!odd.fit());
        odd.kernel = "k".repeat(300);
        odd.labels = vec![("l".into(), "v".into()); 100];
        odd.pressure = vec!["p".repeat(100)];
        assert!(odd.fit() && odd.is_bounded());
        assert_eq!((odd.kernel.len(), odd.labels.len(), odd.pressure.len()), (256, 64, 0));
    }
}
