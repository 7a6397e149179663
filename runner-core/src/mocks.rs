//! `mockall` mocks of the traits, for the tests of whoever implements one of them and needs the others.
//!
//! The mocks of [`JobSource`], [`Executor`] and [`JobHandle`] know the methods that every
//! implementation has to write. The others keep the defaults of their traits: a method that *waits*
//! (`Executor::abandoned`, for one) has no meaning in a mock, whose answers come at once, and a test
//! says nothing about abilities that it does not use.
//!
//! A call without an expectation panics where it is made. In a manager that is either a job's task
//! (the job is left to the next manager) or the manager itself, whose `run` then panics: a test waits
//! for both, the manager and what it expects, with `tokio::select!`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use runner_core::ids::{JobId, SourceId};
//! use runner_core::job::Job;
//! use runner_core::mocks::MockJobSource;
//! use runner_core::source::{JobSource, Offer, Polled, Ticket};
//!
//! let mut source = MockJobSource::new();
//! source.expect_id().return_const(SourceId("mine".into()));
//! source.expect_poll().times(1).returning(|| {
//!     let job = Job::new(JobId(7), "test", ["make check"]);
//!     Ok(Polled::job(Offer { job, ticket: Ticket("7".into()) }))
//! });
//! let offer = source.poll().await.expect("it was told to").offer.expect("a job");
//! assert_eq!(offer.job.id, JobId(7));
//! # }
//! ```

use async_trait::async_trait;
use bytes::Bytes;
use mockall::mock;

pub use crate::artifact::MockArtifactStore;
pub use crate::cache::MockCacheStore;
use crate::executor::{
    Executor, ExecutorError, JobEvent, JobHandle, JobPhase, JobRequest, Remarks, Stop,
};
use crate::ids::{JobId, Offset, SourceId};
pub use crate::secrets::MockSecretStore;
use crate::source::{Appended, Conclusion, Finished, JobSource, Polled, SourceError, Ticket};

mock! {
    /// A [`JobSource`] that does as it is told.
    pub JobSource {}

    #[async_trait]
    impl JobSource for JobSource {
        fn id(&self) -> SourceId;
        async fn poll(&self) -> Result<Polled, SourceError>;
        async fn append(
            &self,
            ticket: &Ticket,
            from: Offset,
            chunks: Vec<Bytes>,
        ) -> Result<Appended, SourceError>;
        async fn finish(
            &self,
            ticket: &Ticket,
            conclusion: &Conclusion,
        ) -> Result<Finished, SourceError>;
    }
}

mock! {
    /// An [`Executor`] that does as it is told.
    pub Executor {}

    #[async_trait]
    impl Executor for Executor {
        async fn reserve<'a>(
            &self,
            request: JobRequest<'a>,
        ) -> Result<Box<dyn JobHandle>, ExecutorError>;
        async fn recover(&self) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError>;
    }
}

mock! {
    /// A [`JobHandle`] that does as it is told.
    pub JobHandle {}

    #[async_trait]
    impl JobHandle for JobHandle {
        fn id(&self) -> JobId;
        fn ticket(&self) -> Ticket;
        fn place(&self) -> String;
        fn phase(&self) -> JobPhase;
        fn remarks(&self) -> Remarks;
        async fn start(&mut self) -> Result<(), ExecutorError>;
        async fn event(&mut self) -> JobEvent;
        async fn follow(&mut self, from: Offset, until: Offset);
        async fn stop(&mut self, stop: Stop) -> Result<(), ExecutorError>;
        async fn remark(&mut self, remarks: Remarks) -> Result<(), ExecutorError>;
        async fn dispose(&mut self) -> Result<(), ExecutorError>;
    }
}
