//! Who is served first when a cluster asks for more than the hub does at a time: API Priority and Fairness (KEP-1040)
//! as logic, without a clock, a lock or a socket.
//!
//! ```text
//! configuration   FlowSchemas and PriorityLevelConfigurations of one cluster, and the class of a request: the schema
//!                 that matches it first, its level, its flow   (flow_schema, rule, priority_level)
//!   request         what of a request decides: caller, verb, resource or path
//! work            how many seats a request takes
//! seats           all levels of one cluster: what each may use at the moment, and who waits for it
//!   sharing         a level's own seats, those that it lends and borrows   (demand)
//!   queues          those who wait in one level, in the order of their virtual finish   (hand)
//! ```
//!
//! Guarantees:
//! - a flow that asks for much has its part of the seats, and who asks for little is served about as soon as if it were
//!   not there (`a_flow_of_a_thousand_holds_up_no_small_one`);
//! - nothing is free while somebody waits for it, and nobody is forgotten (`whatever_happens_seats_add_up`).

mod configuration;
mod demand;
mod flow_schema;
mod priority_level;
mod queues;
mod request;
mod rule;
mod seats;
mod sharing;
mod shuffle_shard;
#[cfg(test)]
mod testing;
pub mod work;

pub use configuration::{Class, Configuration, LEVELS_MAX, levels_that_act};
pub use flow_schema::FlowSchema;
pub use priority_level::PriorityLevel;
pub use queues::Refusal;
pub use request::{Request, Resource, What};
pub use seats::{Asked, End, LevelState, Seats, Ticket};
