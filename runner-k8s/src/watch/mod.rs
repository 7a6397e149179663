//! What the cluster says about pods: one watch for all jobs of an executor.

mod hub;
mod view;

pub(crate) use hub::Hubs;
pub use hub::{PodHub, PodSight, PodWatch};
pub use view::{
    Condition, Container, ContainerSpec, ContainerState, PodSpecView, PodStatusView, PodView,
    Terminated, VolumeSpec, Waiting,
};
