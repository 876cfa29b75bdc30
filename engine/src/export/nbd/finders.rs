//! The threads that find block status, so that the reactor never reads the metadata store.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::protocol::transmission::StatusExtent;
use super::status::{Context, Range, StatusFinder};
use super::traffic::Command;
use crate::core::Target;
use crate::error::{Error, Kind, Result};
use crate::reactor::Handle;
use crate::units::VolumeId;

/// How many there are.
const THREADS: usize = 2;

/// A question about block status.
pub(super) struct Question {
    /// The request's number.
    pub(super) tag: usize,
    pub(super) volume: VolumeId,
    pub(super) target: Target,
    pub(super) contexts: Arc<Vec<Context>>,
    pub(super) range: Range,
}

/// The threads. They end after their last question when this is dropped.
pub(super) struct Finders {
    questions: Sender<Question>,
}

impl Finders {
    /// Starts them; answers go to `answers`, and the reactor is woken.
    pub(super) fn start(handle: &Handle, answers: &Sender<Command>) -> Result<Self> {
        let (questions, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let finder = Arc::new(StatusFinder::new(handle.clone()));
        for number in 0..THREADS {
            let (queue, finder, answers, waker) =
                (queue.clone(), finder.clone(), answers.clone(), handle.waker());
            let work = move || {
                while let Some(question) = next(&queue) {
                    let (tag, found) = (question.tag, find(&finder, question));
                    // The reactor may be gone; then nobody needs the answer.
                    let _ = answers.send(Command::Status(tag, found));
                    waker.wake();
                }
            };
            let name = format!("firn-nbd-status-{number}");
            // Not waited for at the end: the reactor's thread drops this, and their last questions may need it.
            let spawned = std::thread::Builder::new().name(name.clone()).spawn(work);
            spawned.map_err(|source| Error::io("start a thread", name, source))?;
        }
        Ok(Self { questions })
    }

    /// Asks; the answer comes by itself. `false` when the threads are gone.
    pub(super) fn ask(&self, question: Question) -> bool {
        self.questions.send(question).is_ok()
    }
}

fn next(queue: &Mutex<Receiver<Question>>) -> Option<Question> {
    // Nothing panics while it holds the lock.
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn find(finder: &StatusFinder, question: Question) -> Result<Vec<Vec<StatusExtent>>> {
    let Question { volume, target, contexts, range, .. } = question;
    let all = || contexts.iter().map(|context| finder.find(volume, target, context, range)).collect();
    // The finder only reads shared state, and keeps what it remembers whole.
    catch_unwind(AssertUnwindSafe(all))
        .unwrap_or_else(|_| Err(Error::new(Kind::Bug, "find block status", "a thread panicked")))
}
