//! What a device and its hub say where devices join.

use freewheel_link::digest::Digest;
use freewheel_link::join::{
    AcceptedV1, Ask, JoinAnswer, JoinRefusal, JoinRequestV1, RenewRequestV1, WipedV1,
};
use freewheel_link::message::Reason;

use super::{frozen, name, text};

#[test]
fn joining() {
    let request = JoinRequestV1 {
        token: text("abcdef.0123456789abcdef"),
        name: text("pi-7"),
        csr: vec![1, 2],
        labels: vec![(text("l"), text("v"))],
        version: text("v"),
    };
    frozen(
        &request,
        "176162636465662e303132333435363738396162636465660470692d3702010201016c01760176",
    );
    frozen(
        &Ask::Join(request),
        "00176162636465662e303132333435363738396162636465660470692d3702010201016c01760176",
    );
    let renew = RenewRequestV1 { certificate: vec![3], csr: vec![1, 2] };
    frozen(&Ask::Renew(renew), "010103020102");
    frozen(&Ask::Wiped(WipedV1 { csr: vec![1, 2], left: text("l") }), "02020102016c");
    assert_eq!(WipedV1::statement("o", ""), "freewheel:wiped:o");
    let digest = Digest::of(b"l");
    assert_eq!(WipedV1::statement("o", "l"), format!("freewheel:wiped:o:{digest}"));
    frozen(&JoinAnswer::Pending(text("w")), "000177");
    frozen(&JoinAnswer::TurnedAway(Reason::Decommissioned(text("o"))), "030b016f");
    frozen(&JoinAnswer::Taken, "04");
    let accepted = AcceptedV1 {
        cluster: name("pi-7"),
        certificate: vec![1],
        ca: vec![2],
        fleet_root: [3; 32],
    };
    frozen(
        &JoinAnswer::Accepted(accepted),
        "010470692d37010101020303030303030303030303030303030303030303030303030303030303030303",
    );
    for (cause, hex) in [
        (JoinRefusal::Token, "02000178"),
        (JoinRefusal::Name, "02010178"),
        (JoinRefusal::NameTaken, "02020178"),
        (JoinRefusal::Request, "02030178"),
        (JoinRefusal::Denied, "02040178"),
        (JoinRefusal::Busy, "02050178"),
        (JoinRefusal::Internal, "02060178"),
        (JoinRefusal::Unknown, "02070178"),
        (JoinRefusal::Labels, "02080178"),
    ] {
        frozen(&JoinAnswer::refused(cause, "x"), hex);
    }
}
