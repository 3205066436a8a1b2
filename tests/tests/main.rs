//! The whole fleet, as its users have it: each file is one of their matters. All are one binary, so that one test waits
//! while another one works; `wheel` and `long` are binaries of their own, which run with other settings as well.

mod add_ons;
mod autonomy;
mod bad_input;
mod bad_modules;
mod broken_off;
mod certificates;
mod cluster_quota;
mod custom_resources;
mod data_folder;
mod devices;
mod documented_guests;
mod examples;
mod figures;
mod hub_process;
mod identity;
mod kubectl;
mod kubectl_apply;
mod kubectl_hub;
mod kubectl_output;
mod logs;
mod network;
mod operations;
mod plans;
mod pods;
mod protobuf;
mod realms;
mod registry;
mod registry_tools;
mod roles;
mod rolling_update;
mod status;
mod streams;
mod swarm;
mod usage;
