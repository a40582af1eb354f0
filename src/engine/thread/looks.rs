//! Looking at steps that were made, between other wishes.

use std::sync::mpsc::TryRecvError;

use super::{Driver, End};
use crate::engine::Event;
use crate::engine::look::Looking;

impl Driver<'_> {
    /// Looks at a step while it waits. Asked for again, the step that it looks at goes on: also where it had ended for want of
    /// passes.
    pub(super) fn look(&mut self, step: usize) -> Result<(), End> {
        if let Some(looking) = self.looking.as_mut().filter(|looking| looking.step == step) {
            looking.go_on();
            return Ok(());
        }
        self.break_off()?;
        match self.engine.session.look(step) {
            Ok(Some(looking)) => {
                self.looking = Some(looking);
                Ok(())
            }
            Ok(None) => self.refuse(&format!("the present text has no step {step} to look at")),
            Err(why) => self.refuse(&format!("step {step} can't be looked at: {why}")),
        }
    }

    /// Lets go of the look that there is, and tells that it is refined no more.
    pub(super) fn break_off(&mut self) -> Result<(), End> {
        match self.looking.take().filter(Looking::refining) {
            Some(mut looking) => {
                looking.break_off();
                self.looked(&looking)
            }
            None => Ok(()),
        }
    }

    fn looked(&mut self, looking: &Looking) -> Result<(), End> {
        let (prompt_id, step, look) = (looking.prompt_id.clone(), looking.step, looking.found());
        self.tell(Event::Looked { prompt_id, step, look, curve: None, systematic: false })
    }

    /// Looks at the step that was just made, to the end or until a command comes. A look that fails is the last one: the steps
    /// themselves may go on.
    pub(super) fn look_at_once(&mut self, step: usize) -> Result<(), End> {
        let mut gone = false;
        let looked = self.engine.session.look(step).and_then(|looking| {
            let Some(mut looking) = looking else { return Ok(None) };
            while looking.refine()? {
                match self.orders.try_recv() {
                    Ok(order) => self.waiting.push_back(order),
                    Err(TryRecvError::Empty) => continue,
                    Err(TryRecvError::Disconnected) => gone = true,
                }
                looking.break_off();
                break;
            }
            Ok(Some(looking))
        });
        match looked {
            _ if gone => Err(End::Quit),
            Ok(Some(looking)) => self.looked(&looking),
            Ok(None) => Ok(()),
            Err(why) => {
                self.look_every = 0;
                self.refuse(&format!("steps can't be looked at: {why}"))
            }
        }
    }

    /// Refines the look that there is by one pass; says whether there was one to be refined.
    pub(super) fn look_on(&mut self) -> Result<bool, End> {
        let Some(mut looking) = self.looking.take() else { return Ok(false) };
        if !looking.refining() {
            self.looking = Some(looking);
            return Ok(false);
        }
        match looking.refine() {
            Ok(_) => {
                self.looked(&looking)?;
                self.looking = Some(looking);
            }
            Err(why) => self.refuse(&format!("step {} can't be looked at: {why}", looking.step))?,
        }
        Ok(true)
    }
}
