//! How what is ready is prepared: what is known to be up to date not at all, a little by the
//! loop itself, much by all processors. It does not know what preparing is.

use std::sync::Arc;

use super::drive::Drive;
use super::slot::{Question, answer_all};
use super::step::Prepared;
use crate::graph::TargetId;
use crate::journal::Success;

/// Up to how many targets the loop prepares itself if nobody else does anything that it would
/// have to hear of meanwhile.
const FEW: usize = 2;
/// How many portions of what is to be prepared each processor gets.
const PORTIONS: usize = 4;

impl<'a> Drive<'a> {
    /// Has everything that is ready prepared: here if that is little, else by the pool.
    pub(super) fn prepare_all<'s>(&mut self, pool: Option<&rayon::Scope<'s>>)
    where
        'a: 's,
    {
        let mut questions = std::mem::take(&mut self.many);
        while let Some(id) = self.plan.next_to_prepare() {
            match self.unchanged(id) {
                Some(last) => self.hear_prepared(id, Prepared::UpToDate(last)),
                None => questions.push(self.question(id)),
            }
        }
        let is_all = self.plan.running() == 0 && self.plan.preparing() == questions.len();
        if is_all && questions.len() <= FEW {
            let answers = questions.iter().map(|question| question.answer(self.step));
            for answer in answers.collect::<Vec<_>>() {
                self.hear_answer(answer);
            }
            return;
        }
        match pool {
            Some(pool) => self.prepare_in(pool, questions),
            None => self.many = questions,
        }
    }

    /// Has questions answered in as few portions as keep all processors busy: waking a
    /// thread for each target would cost more than the work.
    fn prepare_in<'s>(&self, pool: &rayon::Scope<'s>, mut questions: Vec<Question>)
    where
        'a: 's,
    {
        let portion = questions
            .len()
            .div_ceil(PORTIONS * rayon::current_num_threads());
        while !questions.is_empty() {
            let rest = questions.split_off(portion.min(questions.len()));
            let portion = std::mem::replace(&mut questions, rest);
            let (step, sender) = (self.step, self.answers.sender.clone());
            pool.spawn(move |_| answer_all(&portion, step, &sender));
        }
    }

    /// Tells whether this run changed nothing that a target may read: those that it names, or
    /// comes after, and those before them.
    pub(super) fn is_same_before(&self, id: TargetId) -> bool {
        let graph = self.graph();
        let mut before = graph.needs(id).iter().chain(graph.after(id));
        before.all(|id| self.is_same[id.index()])
    }

    /// Returns a target's last success if the snapshot shows that it is still up to date: no
    /// path that it may read or makes changed since, nor did this run change one before it.
    fn unchanged(&self, id: TargetId) -> Option<Arc<Success>> {
        let snapshot = self.step.parts.snapshot?;
        let target = self.graph().target(id);
        let last = self.memory.success(self.name(id))?;
        let is_unchanged = target.cache && self.is_same_before(id) && !snapshot.concerns(target);
        is_unchanged.then(|| last.clone())
    }

    fn question(&self, id: TargetId) -> Question {
        let needs = self.graph().needs(id).iter();
        Question {
            id,
            needs: needs
                .filter_map(|need| self.made[need.index()].clone())
                .collect(),
            last: self.memory.success(self.name(id)).cloned(),
        }
    }
}
