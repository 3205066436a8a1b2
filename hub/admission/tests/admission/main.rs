//! Policies and webhooks, over a pipeline in memory.

#[cfg(test)]
mod actions;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod selections;
#[cfg(test)]
mod tenants;
#[cfg(test)]
mod webhooks;
