//! Oracle searches of the driver, on steps that were already made.
//!
//! A search runs either right after a step, for every n-th one, or while paused, for a step that
//! the user picks.

use std::sync::Arc;
use std::sync::mpsc::TryRecvError;

use super::{Driver, End};
use crate::engine::Event;
use crate::engine::step_search::{SearchSizes, StepSearch};

/// Reason for an oracle search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SearchReason {
    /// Selection of every n-th step.
    Systematic,
    /// Request by the user.
    Requested,
}

impl Driver<'_> {
    /// Starts an oracle search on a step, while paused.
    ///
    /// A repeated request continues the search, even one that had run out of passes.
    pub(super) fn start_search(&mut self, step: usize) -> Result<(), End> {
        if let Some(search) = self.search.as_mut().filter(|search| search.step == step) {
            search.grant_passes();
            return Ok(());
        }
        self.stop_search()?;
        match self.engine.session.start_search(step) {
            Ok(Some(search)) => {
                self.search = Some(search);
                Ok(())
            }
            Ok(None) => self.refuse(&format!("the present text has no step {step} to look at")),
            Err(why) => self.refuse(&format!("step {step} can't be looked at: {why}")),
        }
    }

    /// Stops the current oracle search and reports its final state.
    pub(super) fn stop_search(&mut self) -> Result<(), End> {
        match self.search.take().filter(StepSearch::refining) {
            Some(mut search) => {
                search.stop();
                self.report_search(&search, SearchReason::Requested)
            }
            None => Ok(()),
        }
    }

    fn report_search(&mut self, search: &StepSearch, reason: SearchReason) -> Result<(), End> {
        let systematic = reason == SearchReason::Systematic;
        let (prompt_id, step, result) = (search.prompt_id.clone(), search.step, search.result());
        let (curve, tree) = (search.curve().map(Arc::new), search.tree());
        self.send(Event::OracleSearched { prompt_id, step, result, systematic, curve, tree })
    }

    /// Searches the oracle tree of the step just made, until done or a command arrives.
    ///
    /// A failure disables these searches and is reported, but doesn't end the run: the steps
    /// themselves may still work.
    pub(super) fn search_now(&mut self, step: usize) -> Result<(), End> {
        let mut gone = false;
        let found = self.engine.session.search(step, SearchSizes::All).and_then(|search| {
            let Some(mut search) = search else { return Ok(None) };
            while search.refine()? {
                match self.commands.try_recv() {
                    Ok(command) => self.waiting.push_back(command),
                    Err(TryRecvError::Empty) => continue,
                    Err(TryRecvError::Disconnected) => gone = true,
                }
                search.stop();
                break;
            }
            Ok(Some(search))
        });
        match found {
            _ if gone => Err(End::Quit),
            Ok(Some(search)) => self.report_search(&search, SearchReason::Systematic),
            Ok(None) => Ok(()),
            Err(why) => {
                self.look_every = 0;
                self.refuse(&format!("steps can't be looked at: {why}"))
            }
        }
    }

    /// Refines the current oracle search by one pass; false if none is running.
    pub(super) fn refine_search(&mut self) -> Result<bool, End> {
        let Some(mut search) = self.search.take() else { return Ok(false) };
        if !search.refining() {
            self.search = Some(search);
            return Ok(false);
        }
        match search.refine() {
            Ok(_) => {
                self.report_search(&search, SearchReason::Requested)?;
                self.search = Some(search);
            }
            Err(why) => self.refuse(&format!("step {} can't be looked at: {why}", search.step))?,
        }
        Ok(true)
    }
}
